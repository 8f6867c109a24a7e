import NIOSSL
import Secrets
import Traffic

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// A certificate with its chain and key, parsed and checked.
struct OwnCertificate: Sendable {
  /// Leaf first; self-signed authorities left out unless the leaf is one.
  let chain: [NIOSSLCertificate]
  let key: NIOSSLPrivateKey
  /// The authorities that came with it.
  let issuers: [NIOSSLCertificate]
  /// Seconds since 1970.
  let expires: Int64

  /// `what` names the source in errors. Throws when the text is no PEM, or the certificate is not valid now.
  init(
    _ source: CertificateSource, _ text: (chain: [UInt8], issuers: [UInt8], key: SecretBytes), now: Int64
  ) throws(TLSMaterialError) {
    let given = try PEM.certificates(text.chain, source.description)
    let leaf = given[0]
    issuers = text.issuers.isEmpty ? [] : try PEM.certificates(text.issuers, source.description)
    let more = given.dropFirst() + issuers.filter { !given.contains($0) }
    chain = [leaf] + more.filter { $0.subjectName != $0.issuerName }
    var keyText = text.key.copy()
    defer { keyText.withUnsafeMutableBytes { if let base = $0.baseAddress { explicit_bzero(base, $0.count) } } }
    do {
      key = try NIOSSLPrivateKey(bytes: keyText, format: .pem)
    } catch {
      throw TLSMaterialError("\(source): there is no private key in PEM form (without a passphrase)")
    }
    expires = Int64(leaf.notValidAfter)
    if expires <= now {
      throw TLSMaterialError("\(source): the certificate of \(leaf.subject) expired at \(Moment.text(expires))")
    }
    if Int64(leaf.notValidBefore) > now {
      throw TLSMaterialError(
        "\(source): the certificate of \(leaf.subject) is not valid before \(Moment.text(Int64(leaf.notValidBefore)))")
    }
  }
}

enum PEM {
  /// At least one certificate.
  static func certificates(_ text: [UInt8], _ what: String) throws(TLSMaterialError) -> [NIOSSLCertificate] {
    let found = (try? NIOSSLCertificate.fromPEMBytes(text)) ?? []
    guard !found.isEmpty else { throw TLSMaterialError("\(what): there is no certificate in PEM form") }
    return found
  }
}

extension NIOSSLCertificate {
  /// `CN=web, O=Shop`; the names when there is no subject.
  var subject: String {
    let text = Self.text(subjectName)
    return text.isEmpty ? names.summary(limit: 2) : text
  }

  var issuer: String { Self.text(issuerName) }

  private static func text(_ names: [SSLCertificateName]) -> String {
    let labels: [(SSLCertificateNameType, String)] = [
      (.commonName, "CN"), (.organizationalUnit, "OU"), (.organization, "O"), (.country, "C"),
    ]
    return labels.flatMap { type, label in names.filter { $0.type == type }.map { "\(label)=\($0.value)" } }
      .joined(separator: ", ")
  }

  /// The names that identify its holder.
  var names: PeerNames {
    var names = PeerNames()
    for name in _subjectAlternativeNames() {
      switch name.nameType {
      case .uri: names.uris.append(String(decoding: name.contents, as: UTF8.self))
      case .dnsName: names.dns.append(String(decoding: name.contents, as: UTF8.self))
      case .ipAddress: names.addresses.append(Array(name.contents))
      default: break
      }
    }
    return names
  }

  /// `valid 2026-01-01T00:00:00Z to …`.
  var validity: String { "valid \(Moment.text(Int64(notValidBefore))) to \(Moment.text(Int64(notValidAfter)))" }
}

enum Moment {
  /// Seconds since 1970.
  static var now: Int64 { Int64(time(nil)) }

  /// RFC 3339 in UTC.
  static func text(_ seconds: Int64) -> String {
    var moment = time_t(seconds)
    var parts = tm()
    gmtime_r(&moment, &parts)
    func pad(_ number: Int32, _ width: Int = 2) -> String {
      let text = String(number)
      return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
    }
    return "\(pad(parts.tm_year + 1900, 4))-\(pad(parts.tm_mon + 1))-\(pad(parts.tm_mday))"
      + "T\(pad(parts.tm_hour)):\(pad(parts.tm_min)):\(pad(parts.tm_sec))Z"
  }
}
