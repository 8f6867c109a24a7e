import AsyncHTTPClient
import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import Vocabulary

/// Talks to a running sidecar over its control socket.
enum ControlClient {
  struct Answer: Sendable {
    var status: Int
    var body: String
  }

  struct Unreachable: Error, CustomStringConvertible {
    var description: String
    static func none(_ socket: String) -> Unreachable {
      Unreachable(
        description: "no sidecar runs with the control socket \(socket); start one, or name its directory with --state")
    }
  }

  /// Sends one request and reads at most 16 MiB of answer.
  static func send(
    _ method: String, _ path: String, socket: String, timeout: TimeAmount = .seconds(60)
  ) throws -> Answer {
    guard access(socket, F_OK) == 0 else {
      throw Unreachable.none(socket)
    }
    do {
      return try send(method, url: "http+unix://\(escape(socket))\(path)", timeout: timeout)
    } catch {
      throw Unreachable(
        description:
          "the sidecar at \(socket) does not answer (\(error)); is it still running? Look at its standard error")
    }
  }

  /// Sends one request to an address, which is not checked for being that of a sidecar.
  static func send(_ method: String, _ path: String, to address: Address, timeout: TimeAmount) throws -> Answer {
    switch address {
    case .unix(let socket): try send(method, url: "http+unix://\(escape(socket))\(path)", timeout: timeout)
    case .tcp(let host, let port):
      try send(
        method, url: "http://\(Address.tcp(host: host.isEmpty ? "127.0.0.1" : host, port: port))\(path)",
        timeout: timeout)
    }
  }

  private static func send(_ method: String, url: String, timeout: TimeAmount) throws -> Answer {
    try blocking {
      let client = HTTPClient(eventLoopGroup: MultiThreadedEventLoopGroup.singleton)
      do {
        var request = HTTPClientRequest(url: url)
        request.method = .RAW(value: method)
        let response = try await client.execute(request, timeout: timeout)
        let body = try await response.body.collect(upTo: 16 << 20)
        try await client.shutdown()
        return Answer(status: Int(response.status.code), body: String(buffer: body))
      } catch {
        try? await client.shutdown()
        throw error
      }
    }
  }

  /// Reads a stream of lines until it ends or `take` says false; the answer when it is an error.
  static func lines(
    _ path: String, socket: String, _ take: @escaping @Sendable ([UInt8]) -> Bool
  ) throws -> Answer? {
    guard access(socket, F_OK) == 0 else { throw Unreachable.none(socket) }
    return try blocking {
      let client = HTTPClient(eventLoopGroup: MultiThreadedEventLoopGroup.singleton)
      do {
        let request = HTTPClientRequest(url: "http+unix://\(escape(socket))\(path)")
        let response = try await client.execute(request, deadline: .distantFuture)
        var failure: Answer?
        if response.status.code >= 400 {
          failure = Answer(
            status: Int(response.status.code), body: String(buffer: try await response.body.collect(upTo: 1 << 20)))
        } else {
          var rest: [UInt8] = []
          reading: for try await chunk in response.body {
            rest.append(contentsOf: chunk.readableBytesView)
            while let end = rest.firstIndex(of: 10) {
              let line = Array(rest[..<end])
              rest.removeSubrange(...end)
              if !take(line) { break reading }
            }
          }
        }
        try await client.shutdown()
        return failure
      } catch {
        try? await client.shutdown()
        throw Unreachable(description: "the sidecar at \(socket) ended the stream (\(error)); does it still run?")
      }
    }
  }

  /// Percent-encodes what is not unreserved (RFC 3986 section 2.3).
  static func escape(_ path: String) -> String {
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
