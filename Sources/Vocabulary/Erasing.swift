#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

extension UnsafeRawBufferPointer {
  /// Zeroes the memory, although it is only lent for reading: for octets that were a secret and that nobody reads again.
  package func erase() {
    guard let base = baseAddress, count > 0 else { return }
    explicit_bzero(UnsafeMutableRawPointer(mutating: base), count)
  }
}

extension [UInt8] {
  /// Zeroes octets that were a secret, for every holder of this array: a copy that waits to be written would keep them.
  /// Never of a constant, which may stand in memory that cannot be written.
  package func erase() { withUnsafeBytes { $0.erase() } }
}

/// Octets that may be secret, appended one after the other; storage that is outgrown is zeroed.
package struct ErasingText: Sendable {
  package private(set) var bytes: [UInt8] = []

  package init(capacity: Int = 0) { bytes.reserveCapacity(capacity) }

  package mutating func append(_ more: some Collection<UInt8>) {
    makeRoom(for: more.count)
    bytes.append(contentsOf: more)
  }

  package mutating func append(_ byte: UInt8) {
    makeRoom(for: 1)
    bytes.append(byte)
  }

  private mutating func makeRoom(for count: Int) {
    let needed = bytes.count + count
    guard needed > bytes.capacity else { return }
    var larger: [UInt8] = []
    larger.reserveCapacity(Swift.max(needed, bytes.capacity * 2))
    larger.append(contentsOf: bytes)
    bytes.erase()
    bytes = larger
  }
}

/// A text of a JSON reply that may be a secret, in memory of its own that is zeroed when the last reference goes.
package final class HiddenText: Sendable {
  // Written once in `init`, only read until `deinit`, which no other reference can outlive: safe to share.
  nonisolated(unsafe) private let memory: UnsafeMutableRawBufferPointer

  /// UTF-8.
  package init(_ bytes: [UInt8]) {
    memory = .allocate(byteCount: bytes.count, alignment: 1)
    memory.copyBytes(from: bytes)
  }

  deinit {
    UnsafeRawBufferPointer(memory).erase()
    memory.deallocate()
  }

  package func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    body(UnsafeRawBufferPointer(memory))
  }

  /// A copy that nobody zeroes: for what is no secret.
  package var text: String { String(decoding: memory, as: UTF8.self) }
}
