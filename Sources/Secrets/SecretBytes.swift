import Glibc
package import Vocabulary

/// A secret value in memory of its own that is zeroed when the last reference goes. Copies that callers take are theirs
/// to forget; printing one shows its length only.
package final class SecretBytes: Sendable, Equatable, CustomStringConvertible {
  // Written once in `init`, only read until `deinit`, which no other reference can outlive: safe to share.
  nonisolated(unsafe) private let memory: UnsafeMutableRawBufferPointer

  package init(_ bytes: some Collection<UInt8>) {
    memory = .allocate(byteCount: bytes.count, alignment: 1)
    memory.copyBytes(from: bytes)
  }

  package convenience init(_ text: String) { self.init(text.utf8) }

  /// A scalar of a reply as text, anything else as JSON. What is hidden leaves no copy.
  package convenience init(_ node: JSONNode) {
    if case .hidden(let hidden) = node {
      self.init(of: hidden)
    } else {
      self.init(node.text)
    }
  }

  private init(of hidden: HiddenText) {
    memory = hidden.withBytes { bytes in
      let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
      memory.copyMemory(from: bytes)
      return memory
    }
  }

  deinit {
    if let base = memory.baseAddress { explicit_bzero(base, memory.count) }
    memory.deallocate()
  }

  package var count: Int { memory.count }
  package func copy() -> [UInt8] { Array(memory) }
  package var description: String { "<\(memory.count) secret bytes>" }

  /// Well-formed UTF-8.
  package var isText: Bool { withBytes { UTF8Octets.isText($0) } }

  /// PEM certificates and nothing else.
  package var isCertificate: Bool {
    let begin = Array("-----BEGIN ".utf8)
    let certificate = begin + Array("CERTIFICATE-----".utf8)
    return withBytes { bytes in
      guard bytes.starts(with: certificate) else { return false }
      var at = 0
      while at + certificate.count <= bytes.count {
        if bytes[at] == begin[0], bytes[at...].starts(with: begin), !bytes[at...].starts(with: certificate) {
          return false
        }
        at += 1
      }
      return true
    }
  }

  package func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
    try body(UnsafeRawBufferPointer(memory))
  }

  package static func == (left: SecretBytes, right: SecretBytes) -> Bool {
    left.count == right.count && left.memory.elementsEqual(right.memory)
  }
}
