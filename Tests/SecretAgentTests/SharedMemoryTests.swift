import CLinux
import Glibc
import Logging
import NIOCore
import NIOPosix
import Synchronization
import Telemetry
import Testing

@testable import SecretAgent
@testable import Secrets

/// A reader as the document describes it.
private struct Reader: ~Copyable {
  let memory: UnsafeRawBufferPointer

  init(_ descriptor: CInt, _ length: Int) throws {
    let address = mmap(nil, length, PROT_READ, MAP_SHARED, descriptor, 0)
    memory = UnsafeRawBufferPointer(start: try #require(address == MAP_FAILED ? nil : address), count: length)
  }

  deinit { munmap(UnsafeMutableRawPointer(mutating: memory.baseAddress), memory.count) }

  var flags: UInt32 { SharedMemoryLayout.get(UInt32.self, memory, SharedMemoryLayout.Offset.flags) }

  /// A whole publication, nil when one was being written.
  func look() -> (flags: UInt32, generation: UInt64, payload: [UInt8])? {
    guard let base = memory.baseAddress else { return nil }
    let word = (base + SharedMemoryLayout.Offset.sequence).assumingMemoryBound(to: UInt32.self)
    let before = outrider_load_acquire(word)
    guard before & 1 == 0 else { return nil }
    let used = Int(SharedMemoryLayout.get(UInt32.self, memory, SharedMemoryLayout.Offset.used))
    guard used <= memory.count - 64 else { return nil }
    let payload = Array(memory[64..<(64 + used)])
    let checksum = SharedMemoryLayout.get(UInt32.self, memory, SharedMemoryLayout.Offset.checksum)
    let generation = SharedMemoryLayout.get(UInt64.self, memory, SharedMemoryLayout.Offset.generation)
    let flags = flags
    guard outrider_load_acquire(word) == before, payload.withUnsafeBytes({ CRC32.checksum($0) }) == checksum else {
      return nil
    }
    return (flags, generation, payload)
  }
}

struct SharedMemoryTests {
  let folder = Folder()

  private func record(_ octet: UInt8, _ count: Int) -> SharedMemoryLayout.Record {
    .init(name: "a.b", value: SecretBytes([UInt8](repeating: octet, count: count)))
  }

  @Test func theHeaderIsTheDocuments() throws {
    let segment = try SharedMemorySegment.anonymous(length: 1 << 20)
    #expect(segment.publish([record(7, 3)], [.ready, .stale], milliseconds: 0x0102_0304_0506))
    let reader = try Reader(segment.descriptor, segment.length)
    let header = Array(reader.memory[..<64])
    #expect(Array(header[..<8]) == Array("OUTSEC".utf8) + [0, 1])
    #expect(Array(header[8..<24]) == [64, 0, 0, 0, 0, 0, 16, 0, 2, 0, 0, 0, 3, 0, 0, 0])
    #expect(Array(header[24..<40]) == [1, 0, 0, 0, 0, 0, 0, 0, 6, 5, 4, 3, 2, 1, 0, 0])
    #expect(Array(header[40..<44]) == [40, 0, 0, 0] && Array(header[48..<52]) == [1, 0, 0, 0])
    #expect(header[52...].allSatisfy { $0 == 0 })
  }

  @Test func nobodyElseWritesOrResizesIt() throws {
    let segment = try SharedMemorySegment.anonymous(length: 1 << 20)
    // SEAL, SHRINK, GROW and FUTURE_WRITE.
    #expect(fcntl(segment.descriptor, 1034) == 0x1 | 0x2 | 0x4 | 0x10)
    #expect(mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, segment.descriptor, 0) == MAP_FAILED)
    #expect(pwrite(segment.descriptor, [1, 2, 3], 3, 64) == -1)
    #expect(ftruncate(segment.descriptor, 64) == -1 && ftruncate(segment.descriptor, 2 << 20) == -1)
    #expect(segment.publish([record(1, 10)], .ready, milliseconds: 1), "its own mapping goes on writing")
  }

  @Test func whatIsNoLongerThereIsZero() throws {
    let segment = try SharedMemorySegment.anonymous(length: 1 << 20)
    #expect(segment.publish([record(0xAB, 9000)], .ready, milliseconds: 1))
    #expect(segment.publish([record(0xCD, 16)], .ready, milliseconds: 2))
    let reader = try Reader(segment.descriptor, segment.length)
    #expect(!reader.memory.contains(0xAB))
    #expect(reader.look()?.generation == 2)
    #expect(!segment.publish([record(1, 1 << 20)], .ready, milliseconds: 3), "what does not fit changes nothing")
    #expect(reader.look()?.generation == 2)
  }

  /// Readers race a writer: they see whole publications only.
  @Test func noReadIsTorn() throws {
    let segment = try SharedMemorySegment.anonymous(length: 1 << 20)
    let (descriptor, length) = (segment.descriptor, segment.length)
    let records = [record(0x11, 300), record(0x22, 500)]
    #expect(segment.publish([records[0]], .ready, milliseconds: 0))
    var (whole, torn) = (0, 0)
    let isDone = Atomic(false)
    try withExtendedLifetime(segment) {
      let reader = try Reader(descriptor, length)
      let writer = Writer {
        while !isDone.load(ordering: .relaxed) {
          for record in records { _ = segment.publish([record], .ready, milliseconds: 1) }
        }
      }
      let thread = writer.start()
      while whole < 500, torn == 0 {
        guard let seen = reader.look() else { continue }
        let value = seen.payload[35...].prefix(300)
        let first = value.first ?? 0
        let isWhole = value.allSatisfy { $0 == first } && seen.payload.count == (first == 0x11 ? 336 : 536)
        if isWhole { whole += 1 } else { torn += 1 }
      }
      isDone.store(true, ordering: .relaxed)
      pthread_join(thread, nil)
    }
    #expect(torn == 0)
  }

  private func delivery(_ book: SecretBook, _ log: LogLines = LogLines()) -> SharedMemoryDelivery {
    SharedMemoryDelivery(book: book, metrics: MetricRegistry(), logger: log.logger)
  }

  @Test func aFileHasTheSameAndItsLeftoverIsClosed() throws {
    let book = SecretBook()
    book.publish("db", ["password": SecretBytes("one"), "user": SecretBytes("u")], version: "12")
    let path = folder.path + "/memory"
    var configuration = SharedMemoryConfiguration(values: ["db", "later"])
    configuration.path = path
    let first = delivery(book)
    try first.apply(configuration, stale: false)
    #expect(PlainFile.mode(path) == 0o600)
    let file = open(path, O_RDONLY | O_CLOEXEC)
    defer { close(file) }
    let old = try Reader(file, 1 << 20)
    #expect(old.look()?.flags == 0, "`later` is not there yet")
    book.publish("later", ["value": SecretBytes("x")])
    first.update(stale: false)
    #expect(old.look()?.flags == SharedMemoryLayout.Flags.ready.rawValue)
    let generation = try #require(old.look()?.generation)
    first.update(stale: false)
    #expect(old.look()?.generation == generation, "nothing new, nothing published")
    first.update(stale: true)
    #expect(old.look()?.flags == 3)

    // The next worker, after this one was killed.
    let second = delivery(book)
    try second.apply(configuration, stale: false)
    #expect(old.look()?.flags == SharedMemoryLayout.Flags.closed.rawValue && old.look()?.payload == [])
    let next = open(path, O_RDONLY | O_CLOEXEC)
    defer { close(next) }
    let fresh = try Reader(next, 1 << 20)
    #expect(fresh.look()?.flags == SharedMemoryLayout.Flags.ready.rawValue)
    second.close()
    #expect(fresh.look()?.flags == SharedMemoryLayout.Flags.closed.rawValue)
    #expect(PlainFile.signature(path) == nil)
  }

  @Test func memoryThatIsOutgrownIsReplaced() throws {
    let book = SecretBook()
    book.publish("a", ["b": SecretBytes("small")])
    let log = LogLines()
    let delivery = delivery(book, log)
    try delivery.apply(SharedMemoryConfiguration(values: ["a"]), stale: false)
    let before = try #require(delivery.handle())
    defer { close(before.descriptor) }
    let old = try Reader(before.descriptor, before.length)
    book.publish("a", ["b": SecretBytes([UInt8](repeating: 1, count: 2 << 20))])
    delivery.update(stale: false)
    let after = try #require(delivery.handle())
    defer { close(after.descriptor) }
    #expect(after.length > 2 << 20)
    #expect(old.flags == SharedMemoryLayout.Flags.closed.rawValue)
    #expect(log.text.contains("outgrown"))
    delivery.close()
    #expect(delivery.handle() == nil)
  }
}

/// A joinable thread.
private final class Writer {
  private let body: () -> Void
  init(_ body: @escaping () -> Void) { self.body = body }

  func start() -> pthread_t {
    var thread = pthread_t()
    let code = pthread_create(
      &thread, nil,
      { raw in
        if let raw { Unmanaged<Writer>.fromOpaque(raw).takeUnretainedValue().body() }
        return nil
      }, Unmanaged.passUnretained(self).toOpaque())
    precondition(code == 0)
    return thread
  }
}
