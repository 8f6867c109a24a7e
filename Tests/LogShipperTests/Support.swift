import Glibc
import LogShipper
import Logging
import Logs
import NIOCore
import NIOPosix
import Synchronization
import Telemetry
import Vocabulary

/// A directory that goes away with the test.
final class Scratch: Sendable {
  let path: String

  init() {
    var template = Array("/tmp/outrider-logs-XXXXXX".utf8CString)
    path = mkdtemp(&template).map { String(cString: $0) } ?? "/tmp"
  }

  deinit { remove(path) }

  private func remove(_ path: String) {
    guard let directory = opendir(path) else {
      unlink(path)
      return
    }
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name != ".", name != ".." { remove(path + "/" + name) }
    }
    closedir(directory)
    rmdir(path)
  }
}

/// The ends of a pipe that stands for the app's stdout.
struct AppPipe {
  let reader: CInt
  let writer: CInt

  init() {
    var ends: [CInt] = [-1, -1]
    _ = pipe(&ends)
    (reader, writer) = (ends[0], ends[1])
  }

  func write(_ text: String) { write(Array(text.utf8)) }

  func write(_ bytes: [UInt8]) {
    var done = 0
    while done < bytes.count {
      let n = bytes.withUnsafeBytes { Glibc.write(writer, $0.baseAddress! + done, bytes.count - done) }
      if n > 0 { done += n } else { return }
    }
  }

  func end() { close(writer) }
}

/// Waits for a condition that another thread makes true; the limit is for failures only.
func eventually(_ limit: Duration = .seconds(20), _ condition: () -> Bool) async -> Bool {
  let end = ContinuousClock.now + limit
  while ContinuousClock.now < end {
    if condition() { return true }
    try? await Task.sleep(for: .milliseconds(2))  // between two looks
  }
  return condition()
}

/// A pipeline over a state directory, with only the sinks that a test names besides the store.
func makePipeline(
  _ scratch: Scratch, metrics: MetricRegistry = MetricRegistry(), events: EventStream = EventStream(),
  adjust: (inout LogsConfiguration) -> Void = { _ in }, spoolWrite: Spool.Write? = nil
) throws -> LogPipeline {
  var configuration = LogsConfiguration()
  configuration.sinks = [LogSinkConfiguration(name: "store", output: .store(path: nil, keep: 1 << 30))]
  adjust(&configuration)
  var logger = Logger(label: "test")
  logger.logLevel = .critical
  let write: Spool.Write = spoolWrite ?? { pwrite($0, $1, $2, off_t($3)) }
  return try LogPipeline(
    configuration: configuration, stateDirectory: scratch.path, metrics: metrics, events: events,
    secrets: { $0.literal.map { Array($0.utf8) } }, group: MultiThreadedEventLoopGroup.singleton, logger: logger,
    spoolWrite: write)
}

/// Every record of the store.
func stored(_ scratch: Scratch, _ query: StoreQuery = StoreQuery()) throws -> [String] {
  var lines: [String] = []
  try StoreReader(directory: scratch.path + "/store").query(query) {
    lines.append($0.text)
    return true
  }
  return lines
}

/// The value of a string member of a record.
func member(_ record: String, _ name: String) -> String? {
  var result: String?
  Array(record.utf8).withUnsafeBytes { bytes in
    _ = JSONScanner.object(bytes) { key, value in
      if bytes.part(key).text == name { result = JSONText.string(bytes.part(value)) }
    }
  }
  return result
}

func messages(_ scratch: Scratch) throws -> [String] { try stored(scratch).compactMap { member($0, "message") } }

func append(_ path: String, _ text: String) {
  let fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0o600)
  defer { close(fd) }
  _ = Array(text.utf8).withUnsafeBytes { write(fd, $0.baseAddress, $0.count) }
}

func peakMemory() -> Int {
  var usage = rusage()
  getrusage(0, &usage)
  return usage.ru_maxrss * 1024
}
