import Secrets
package import Traffic

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Why certificates, keys or authorities are not usable. Names files, secrets, subjects and dates, never key material.
package struct TLSMaterialError: Error, Equatable, CustomStringConvertible {
  package var description: String
  /// The secret that has not arrived yet; waiting heals it.
  var awaitedSecret: String?

  init(_ description: String, awaiting secret: String? = nil) {
    self.description = description
    awaitedSecret = secret
  }
}

/// What tells two versions of the material apart without parsing it.
enum MaterialSignature: Equatable, Sendable {
  case none
  case file(device: UInt64, inode: UInt64, size: Int64, seconds: Int, nanoseconds: Int)
  case absent
  case secret([String: SecretBytes])
}

/// Reads PEM text of files and secrets.
struct MaterialSource: Sendable {
  /// Current values of secrets.
  let book: SecretBook

  /// A PEM file larger than this many bytes is an error.
  private static let limit = 4 << 20

  func signatures(_ source: CertificateSource?) -> [MaterialSignature] {
    switch source {
    case nil: []
    case .secret(let name): [secret(name)]
    case .files(let certificate, let key): [Self.file(certificate), Self.file(key)]
    }
  }

  func signatures(_ source: TrustSource?) -> [MaterialSignature] {
    switch source {
    case nil, .system: []
    case .secret(let name): [secret(name)]
    case .file(let path): [Self.file(path)]
    }
  }

  private func secret(_ name: String) -> MaterialSignature { book.fields(name).map { .secret($0) } ?? .absent }

  /// Symbolic links are followed, so that a switched link (Kubernetes' `..data`) is another version.
  static func file(_ path: String) -> MaterialSignature {
    var status = stat()
    guard stat(path, &status) == 0 else { return .absent }
    return .file(
      device: UInt64(status.st_dev), inode: UInt64(status.st_ino), size: Int64(status.st_size),
      seconds: Int(status.st_mtim.tv_sec), nanoseconds: Int(status.st_mtim.tv_nsec))
  }

  /// The PEM text of the chain, of the issuing authorities where the source has them apart, and of the key.
  func certificate(_ source: CertificateSource) throws(TLSMaterialError) -> (
    chain: [UInt8], issuers: [UInt8], key: SecretBytes
  ) {
    switch source {
    case .files(let certificate, let key):
      return (try Self.read(certificate), [], SecretBytes(try Self.read(key)))
    case .secret(let name):
      let fields = try fields(name)
      let bundle = fields["value"] ?? fields["pem"]
      guard let chain = Self.first(["certificate", "tls.crt", "cert"], fields) ?? bundle else {
        throw Self.missing("certificate", name, fields)
      }
      guard let key = Self.first(["private_key", "tls.key", "key"], fields) ?? bundle else {
        throw Self.missing("private_key", name, fields)
      }
      let issuers = Self.first(["ca_chain", "issuing_ca"], fields)
      return (chain.copy(), issuers?.copy() ?? [], key)
    }
  }

  /// The PEM text of authorities.
  func authorities(_ source: TrustSource) throws(TLSMaterialError) -> [UInt8] {
    switch source {
    case .system: return try Self.read(SystemTrust.path())
    case .file(let path): return try Self.read(path)
    case .secret(let name):
      let fields = try fields(name)
      let found = ["ca_chain", "issuing_ca", "ca.crt", "ca", "value", "pem"].compactMap { fields[$0] }
      guard !found.isEmpty else { throw Self.missing("ca_chain", name, fields) }
      return found.reduce(into: []) { $0 += $1.copy() + [10] }
    }
  }

  private func fields(_ name: String) throws(TLSMaterialError) -> [String: SecretBytes] {
    guard let fields = book.fields(name) else {
      throw TLSMaterialError("secret `\(name)` is not there (yet): see `outrider secrets status`", awaiting: name)
    }
    return fields
  }

  private static func first(_ names: [String], _ fields: [String: SecretBytes]) -> SecretBytes? {
    names.lazy.compactMap { fields[$0] }.first
  }

  private static func missing(_ field: String, _ name: String, _ fields: [String: SecretBytes]) -> TLSMaterialError {
    let known = fields.keys.sorted().map { "`\($0)`" }.joined(separator: ", ")
    return TLSMaterialError("secret `\(name)` has no field `\(field)`; it has \(known.isEmpty ? "none" : known)")
  }

  static func read(_ path: String) throws(TLSMaterialError) -> [UInt8] {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw unreadable(path, errno) }
    defer { close(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16384)
    defer { buffer.withUnsafeMutableBytes { if let base = $0.baseAddress { explicit_bzero(base, $0.count) } } }
    while true {
      let count = buffer.withUnsafeMutableBytes { Self.read(file, $0) }
      if count == 0 { return bytes }
      if count < 0 {
        if errno == EINTR { continue }
        throw unreadable(path, errno)
      }
      bytes += buffer[..<count]
      guard bytes.count <= limit else { throw TLSMaterialError("\(path) is larger than 4 MiB") }
    }
  }

  private static func read(_ file: CInt, _ buffer: UnsafeMutableRawBufferPointer) -> Int {
    #if canImport(Glibc)
      Glibc.read(file, buffer.baseAddress, buffer.count)
    #else
      Musl.read(file, buffer.baseAddress, buffer.count)
    #endif
  }

  private static func unreadable(_ path: String, _ code: CInt) -> TLSMaterialError {
    TLSMaterialError("cannot read \(path): \(String(cString: strerror(code)))")
  }
}

/// For whoever looks at certificates without serving them.
package enum CertificateCheck {
  /// When the certificate in those files expires, in seconds since 1970. Throws when it cannot be used now: no PEM,
  /// unreadable, expired, not valid yet. Of a secret nothing is known here.
  package static func expiry(_ source: CertificateSource) throws(TLSMaterialError) -> Int64 {
    let text = try MaterialSource(book: SecretBook()).certificate(source)
    return try OwnCertificate(source, text, now: Moment.now).expires
  }
}
