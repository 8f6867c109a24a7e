import Resilience
import Testing

@testable import Traffic

@Suite struct ResolutionScheduleTests {
  @Test func followsTheLifetimeWithinBounds() {
    var schedule = ResolutionSchedule(seed: 1)
    #expect(schedule.next(lifetime: .seconds(30), failed: false) == .seconds(30))
    #expect(schedule.next(lifetime: .zero, failed: false) == .seconds(1))
    #expect(schedule.next(lifetime: .seconds(86_400), failed: false) == .seconds(300))
    #expect(schedule.next(lifetime: nil, failed: false) == nil)
  }

  @Test func failuresBackOff() {
    var schedule = ResolutionSchedule(seed: 2)
    for least in [1, 2, 4, 8, 15, 15, 15] {
      guard let wait = schedule.next(lifetime: nil, failed: true) else {
        Issue.record("a failure is tried again")
        return
      }
      #expect(wait >= .seconds(least) && wait <= .seconds(least * 2), "\(wait)")
    }
    // What does live is looked up again in its time.
    #expect(schedule.next(lifetime: .seconds(3), failed: true) == .seconds(3))
    #expect(schedule.next(lifetime: .seconds(60), failed: false) == .seconds(60))
    #expect((schedule.next(lifetime: nil, failed: true) ?? .zero) <= .seconds(2))
  }
}

@Suite struct ServiceRecordsTests {
  /// A DNS message, piece by piece.
  struct Message {
    var bytes: [UInt8]

    init(flags: Int = 0x8180, questions: Int = 1, answers: Int) {
      bytes = [0x12, 0x34]
      for number in [flags, questions, answers, 0, 0] { bytes += Self.two(number) }
      if questions == 1 { bytes += Self.name("_http._tcp.shop.test") + Self.two(33) + Self.two(1) }
    }

    static func two(_ number: Int) -> [UInt8] { [UInt8(number >> 8 & 255), UInt8(number & 255)] }

    static func name(_ text: String) -> [UInt8] {
      text.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
    }

    mutating func add(type: Int, ttl: Int, _ data: [UInt8]) {
      // The name is that of the question.
      bytes += [0xC0, 12] + Self.two(type) + Self.two(1) + Self.two(ttl >> 16) + Self.two(ttl & 0xFFFF)
      bytes += Self.two(data.count) + data
    }

    mutating func addService(_ priority: Int, _ weight: Int, _ port: Int, _ target: [UInt8], ttl: Int = 60) {
      add(type: 33, ttl: ttl, Self.two(priority) + Self.two(weight) + Self.two(port) + target)
    }

    func parsed() throws(ServiceRecords.Problem) -> ServiceRecords {
      let result = bytes.withUnsafeBytes { raw in
        Result { () throws(ServiceRecords.Problem) in try ServiceRecords(raw) }
      }
      return try result.get()
    }
  }

  @Test func readsRecords() throws {
    var message = Message(answers: 3)
    message.addService(10, 5, 8080, Message.name("a.shop.test"), ttl: 60)
    // `b`, and the rest of the question's name from `shop` on.
    message.addService(20, 0, 8081, [1, 0x62, 0xC0, 23], ttl: 30)
    message.addService(0, 0, 0, [0])
    let records = try message.parsed()
    #expect(
      records.records == [
        .init(target: "a.shop.test", port: 8080, priority: 10, weight: 5),
        .init(target: "b.shop.test", port: 8081, priority: 20, weight: 0),
      ])
    #expect(records.lifetime == 30)
  }

  @Test func refusesWhatIsBroken() {
    func problem(_ make: () -> Message) -> String? {
      do throws(ServiceRecords.Problem) {
        _ = try make().parsed()
        return nil
      } catch { return error.description }
    }
    func service(_ target: [UInt8], port: Int = 80) -> String? {
      problem {
        var message = Message(answers: 1)
        message.addService(1, 1, port, target)
        return message
      }
    }
    #expect(problem { Message(flags: 0x0180, answers: 0) } == "it is not an answer")
    #expect(problem { Message(flags: 0x8380, answers: 0) } == "it was cut short")
    #expect(problem { Message(flags: 0x8183, answers: 0) } == "its code is 3")
    #expect(problem { Message(answers: 2000) } == "it holds too many records")
    #expect(problem { Message(answers: 1) } == "a name ends too early")
    #expect(service([0xC0, 200]) == "a name points forwards")
    // Pointing at itself.
    #expect(service([0xC0, 56]) == "a name points forwards")
    #expect(service([1, 0x20, 0]) == "a name holds a character that no host has")
    #expect(service([70]) == "a name is broken")
    #expect(service(Message.name("a") + [1]) == "a record's length is wrong")
    #expect(service(Message.name("a"), port: 0) == "a record has no port")
    #expect(
      service(Message.name(Array(repeating: String(repeating: "a", count: 60), count: 5).joined(separator: ".")))
        == "a name is too long")
    #expect(
      problem {
        var message = Message(answers: 1)
        message.add(type: 33, ttl: 1, [0, 1, 0])
        message.bytes[message.bytes.count - 4] = 200
        return message
      } == "a record is longer than the answer")
  }

  /// Whatever a server sends, there is an answer or a problem, and no trap.
  @Test func survivesMutation() {
    var random = SeededRandom(seed: 11)
    var message = Message(answers: 2)
    message.addService(10, 5, 8080, Message.name("a.shop.test"))
    message.addService(20, 0, 8081, [1, 0x62, 0xC0, 23])
    var accepted = 0
    for _ in 0..<20_000 {
      var broken = message
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let place = Int.random(in: 0..<broken.bytes.count, using: &random)
        broken.bytes[place] = UInt8.random(in: 0...255, using: &random)
      }
      broken.bytes.removeLast(Int.random(in: 0...3, using: &random) * Int.random(in: 0...9, using: &random))
      guard let records = try? broken.parsed() else { continue }
      accepted += 1
      #expect(records.records.allSatisfy { !$0.target.isEmpty && $0.port > 0 })
    }
    #expect(accepted > 1000 && accepted < 19_000)
  }
}
