import AsyncHTTPClient
import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix

/// Talks to a running sidecar over its control socket.
enum ControlClient {
  struct Answer: Sendable {
    var status: Int
    var body: String
  }

  struct Unreachable: Error, CustomStringConvertible {
    var description: String
  }

  /// Sends one request and reads at most 16 MiB of answer.
  static func send(_ method: String, _ path: String, socket: String) throws -> Answer {
    guard access(socket, F_OK) == 0 else {
      throw Unreachable(
        description: "no sidecar runs with the control socket \(socket); start one, or name its directory with --state")
    }
    return try blocking {
      let client = HTTPClient(eventLoopGroup: MultiThreadedEventLoopGroup.singleton)
      do {
        var request = HTTPClientRequest(url: "http+unix://\(escape(socket))\(path)")
        request.method = .RAW(value: method)
        let response = try await client.execute(request, timeout: .seconds(60))
        let body = try await response.body.collect(upTo: 16 << 20)
        try await client.shutdown()
        return Answer(status: Int(response.status.code), body: String(buffer: body))
      } catch {
        try? await client.shutdown()
        throw Unreachable(
          description:
            "the sidecar at \(socket) does not answer (\(error)); is it still running? Look at its standard error")
      }
    }
  }

  private static func escape(_ path: String) -> String {
    var text = ""
    for byte in path.utf8 {
      switch byte {
      case 48...57, 65...90, 97...122, 45, 46, 95: text.unicodeScalars.append(Unicode.Scalar(byte))
      default: text += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
      }
    }
    return text
  }
}
