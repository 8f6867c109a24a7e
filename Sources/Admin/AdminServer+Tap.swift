import HTTPTypes
import Hummingbird
import NIOCore
import Telemetry
import Vocabulary

/// `/tap`: finished requests as they happen, one JSON object a line. An empty line each second tells that the stream
/// lives; `{"lost":N}` that the reader was too slow for N records.
enum TapEndpoint {
  struct Refusal: Error, Equatable { var text: String }

  /// The filter that the query describes.
  static func filter(_ query: [(name: String, value: String)]) throws(Refusal) -> TapFilter {
    var filter = TapFilter()
    for (name, value) in query {
      switch name {
      case "status":
        guard let range = TapFilter.statuses(value) else {
          throw Refusal(text: "status: write `5xx`, `404` or `200-299`")
        }
        filter.statuses = range
      case "listener": filter.listener = Array(value.utf8)
      case "route": filter.route = Array(value.utf8)
      case "cluster": filter.cluster = Array(value.utf8)
      case "method": filter.method = Array(value.uppercased().utf8)
      case "path": filter.path = Array(value.utf8)
      case "blame":
        guard Blame(rawValue: value) != nil else {
          throw Refusal(text: "blame: use one of " + Blame.allCases.map(\.rawValue).joined(separator: ", "))
        }
        filter.blame = Array(value.utf8)
      case "slow":
        guard let duration = DurationText.parse(value) else {
          throw Refusal(text: "slow: write a duration, as `200ms`")
        }
        filter.slow = UInt64(max(0, duration.inNanoseconds))
      case "limit":
        guard let number = Int(value), number > 0 else { throw Refusal(text: "limit: write a number above 0") }
        filter.limit = number
      default: throw Refusal(text: "there is no filter `\(name)`")
      }
    }
    return filter
  }

  static func response(_ request: Request, _ hub: TapHub) -> Response {
    let filter: TapFilter
    do {
      filter = try Self.filter(request.uri.queryParameters.map { (String($0.key), String($0.value)) })
    } catch {
      return AdminServer.text(.badRequest, error.text + "\n")
    }
    guard let tap = hub.open(filter) else {
      return AdminServer.text(.serviceUnavailable, "\(TapHub.limit) taps are open already; end one of them\n")
    }
    return Response(
      status: .ok, headers: [.contentType: "application/x-ndjson", .cacheControl: "no-store"],
      body: ResponseBody { writer in
        defer { hub.close(tap) }
        let pulse = Task {
          while !Task.isCancelled {
            tap.wake()
            try await Task.sleep(for: .seconds(1))
          }
        }
        defer { pulse.cancel() }
        try await withTaskCancellationHandler {
          while let batch = await tap.next() {
            var text = ByteBuffer(bytes: batch.lines)
            if batch.lost > 0 { text.writeString("{\"lost\":\(batch.lost)}\n") }
            if text.readableBytes == 0 { text.writeString("\n") }
            try await writer.write(text)
            if batch.isLast { break }
          }
        } onCancel: {
          tap.close()
        }
        try await writer.finish(nil)
      })
  }
}
