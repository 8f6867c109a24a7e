import Glibc
import Logs
import Synchronization

/// A small `_bulk` server on a port of the system's choice, with the faults a cluster shows. One thread, one request a
/// connection at a time.
final class BulkServer: Sendable {
  enum Fault: Sendable {
    case none, tooMany, everyThird
    case tooLarge(Int)
    case mapping, storeThenReset, unavailable
  }

  private struct State {
    var fault: Fault = .none
    /// How many more requests show the fault.
    var times = 0
    var documents: [String: String] = [:]
    var order: [String] = []
    var requests = 0
    var duplicates = 0
    var problems: [String] = []
    var seen: Set<String> = []
  }

  let port: Int
  private let listener: CInt
  private let state = Mutex(State())

  init() {
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let listener = listener
    withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        _ = bind(listener, $0, length)
        _ = getsockname(listener, $0, &length)
      }
    }
    listen(listener, 16)
    port = Int(UInt16(bigEndian: address.sin_port))
    var thread = pthread_t()
    pthread_create(
      &thread, nil,
      { raw in
        if let raw { Unmanaged<BulkServer>.fromOpaque(raw).takeRetainedValue().serve() }
        return nil
      }, Unmanaged.passRetained(self).toOpaque())
    pthread_detach(thread)
  }

  var url: String { "http://127.0.0.1:\(port)" }
  func show(_ fault: Fault, times: Int) { state.withLock { ($0.fault, $0.times) = (fault, times) } }
  var documents: [String] { state.withLock { s in s.order.compactMap { s.documents[$0] } } }
  var problems: [String] { state.withLock { $0.problems } }
  var duplicates: Int { state.withLock { $0.duplicates } }
  var requests: Int { state.withLock { $0.requests } }
  func stop() { shutdown(listener, Int32(SHUT_RDWR)) }

  private func serve() {
    while true {
      let connection = accept(listener, nil, nil)
      if connection < 0 { return }
      while let body = request(connection) { if !answer(connection, body) { break } }
      close(connection)
    }
  }

  private func request(_ connection: CInt) -> [UInt8]? {
    var data: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    var headEnd: Int?
    var length = 0
    var gzip = false
    while true {
      if headEnd == nil, let end = data.withUnsafeBytes({ find($0) }) {
        headEnd = end
        let head = String(decoding: data.prefix(end), as: UTF8.self).lowercased()
        for line in head.split(separator: "\r\n") {
          if line.hasPrefix("content-length:") { length = Int(line.dropFirst(15).filter { $0 != " " }) ?? 0 }
          if line.hasPrefix("content-encoding: gzip") { gzip = true }
        }
        let right = head.hasPrefix("post /_bulk ") && head.contains("content-type: application/x-ndjson")
        if !right { state.withLock { $0.problems.append("bad head: \(head)") } }
      }
      if let headEnd, data.count >= headEnd + length {
        let body = Array(data[headEnd..<headEnd + length])
        return gzip ? body.withUnsafeBytes { Gzip.decompress($0, limit: 64 << 20) } : body
      }
      let n = read(connection, &buffer, buffer.count)
      if n <= 0 { return nil }
      data += buffer.prefix(n)
    }
  }

  private func find(_ bytes: Bytes) -> Int? {
    var at = 0
    while let hit = bytes.firstOffset(of: 0x0D, from: at), hit + 4 <= bytes.count {
      if bytes[hit + 1] == 0x0A, bytes[hit + 2] == 0x0D, bytes[hit + 3] == 0x0A { return hit + 4 }
      at = hit + 1
    }
    return nil
  }

  /// False closes the connection.
  private func answer(_ connection: CInt, _ body: [UInt8]) -> Bool {
    let (text, status, keep) = state.withLock {
      $0.requests += 1
      return judge(body, &$0)
    }
    if !keep {
      var option = linger(l_onoff: 1, l_linger: 0)
      setsockopt(connection, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
      return false
    }
    let reply =
      "HTTP/1.1 \(status) X\r\ncontent-type: application/json\r\ncontent-length: \(text.utf8.count)\r\n\r\n\(text)"
    var done = 0
    let bytes = Array(reply.utf8)
    while done < bytes.count {
      let n = bytes.withUnsafeBytes {
        send(connection, $0.baseAddress! + done, bytes.count - done, Int32(MSG_NOSIGNAL))
      }
      if n <= 0 { return false }
      done += n
    }
    return true
  }

  private func judge(_ body: [UInt8], _ s: inout State) -> (String, Int, Bool) {
    let faulty = s.times > 0
    if faulty { s.times -= 1 }
    let fault = faulty ? s.fault : .none
    if case .tooMany = fault { return ("{\"error\":\"busy\"}", 429, true) }
    if case .unavailable = fault { return ("", 503, true) }
    if case .tooLarge(let limit) = fault, body.count > limit { return ("too large", 413, true) }
    if body.last != 0x0A { s.problems.append("the body does not end in LF") }
    let lines = String(decoding: body, as: UTF8.self).split(separator: "\n")
    if lines.count % 2 != 0 { s.problems.append("odd number of lines") }
    var items: [String] = []
    for index in stride(from: 0, to: lines.count - 1, by: 2) {
      items.append(item(String(lines[index]), String(lines[index + 1]), index / 2, fault, &s))
    }
    if case .storeThenReset = fault { return ("", 0, false) }
    return ("{\"took\":1,\"errors\":true,\"items\":[\(items.joined(separator: ","))]}", 200, true)
  }

  private func item(_ action: String, _ record: String, _ index: Int, _ fault: Fault, _ s: inout State) -> String {
    guard action.hasPrefix("{\"create\":{\"_index\":\"shop-"), let id = action.ranges(of: "\"_id\":\"").first else {
      s.problems.append("bad action \(action)")
      return "{\"create\":{\"status\":400}}"
    }
    let key = String(action[id.upperBound...].prefix { $0 != "\"" })
    if case .everyThird = fault, index % 3 == 2 {
      return
        "{\"create\":{\"status\":429,\"error\":{\"type\":\"es_rejected_execution_exception\",\"reason\":\"full\"}}}"
    }
    if case .mapping = fault, record.contains("poison") {
      return "{\"create\":{\"status\":400,\"error\":{\"type\":\"mapper_parsing_exception\",\"reason\":\"no\"}}}"
    }
    if s.documents[key] != nil {
      s.duplicates += 1
      return "{\"create\":{\"status\":409,\"error\":{\"type\":\"version_conflict_engine_exception\",\"reason\":\"x\"}}}"
    }
    s.documents[key] = record
    s.order.append(key)
    return "{\"create\":{\"status\":201}}"
  }
}
