import Glibc

/// A secret value in memory of its own that is zeroed when the last reference goes. Copies that callers take are theirs
/// to forget; printing one shows its length only.
package final class SecretBytes: Sendable, Equatable, CustomStringConvertible {
  // Written once in `init`, only read until `deinit`, which no other reference can outlive: safe to share.
  nonisolated(unsafe) private let memory: UnsafeMutableRawBufferPointer

  package init(_ bytes: some Collection<UInt8>) {
    memory = .allocate(byteCount: bytes.count, alignment: 1)
    memory.copyBytes(from: bytes)
  }

  package convenience init(_ text: String) { self.init(Array(text.utf8)) }

  deinit {
    if let base = memory.baseAddress { explicit_bzero(base, memory.count) }
    memory.deallocate()
  }

  package var count: Int { memory.count }
  package func copy() -> [UInt8] { Array(memory) }
  package var description: String { "<\(memory.count) secret bytes>" }

  /// Well-formed UTF-8 (Unicode 15, table 3-7).
  package var isText: Bool {
    withBytes { bytes in
      var at = 0
      while at < bytes.count {
        let lead = bytes[at]
        let (length, low, high): (Int, UInt8, UInt8)
        switch lead {
        case 0..<0x80: (length, low, high) = (1, 0, 0)
        case 0xC2...0xDF: (length, low, high) = (2, 0x80, 0xBF)
        case 0xE0: (length, low, high) = (3, 0xA0, 0xBF)
        case 0xED: (length, low, high) = (3, 0x80, 0x9F)
        case 0xE1...0xEF: (length, low, high) = (3, 0x80, 0xBF)
        case 0xF0: (length, low, high) = (4, 0x90, 0xBF)
        case 0xF1...0xF3: (length, low, high) = (4, 0x80, 0xBF)
        case 0xF4: (length, low, high) = (4, 0x80, 0x8F)
        default: return false
        }
        guard at + length <= bytes.count else { return false }
        if length > 1 {
          guard (low...high).contains(bytes[at + 1]),
            bytes[(at + 2)..<(at + length)].allSatisfy({ (0x80...0xBF).contains($0) })
          else { return false }
        }
        at += length
      }
      return true
    }
  }

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
