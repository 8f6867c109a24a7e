import Foundation

/// A certificate authority of a test's own, made with the `openssl` command.
final class Authority: Sendable {
  let folder: String
  let name: String
  var file: String { "\(folder)/ca.pem" }

  struct Failure: Error { var command: String }

  init(_ name: String = "shop root") throws {
    self.name = name
    var template = Array("/tmp/outrider-tls-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw Failure(command: "mkdtemp") }
    folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    try openssl(
      ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "ca.key"]
        + ["-out", "ca.pem", "-subj", "/CN=\(name)", "-days", "10", "-addext", "keyUsage=critical,keyCertSign"])
  }

  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private func openssl(_ arguments: [String]) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["openssl"] + arguments
    process.currentDirectoryURL = URL(fileURLWithPath: folder)
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { throw Failure(command: arguments.joined(separator: " ")) }
  }

  /// Signs a certificate; its files are `NAME.pem` and `NAME.key`. `names` is as `subjectAltName` of openssl has it.
  @discardableResult
  func issue(_ name: String, _ names: String, days: Int = 2) throws -> (certificate: String, key: String) {
    try "subjectAltName=\(names)\n".write(toFile: "\(folder)/\(name).ext", atomically: true, encoding: .utf8)
    try openssl(
      ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "\(name).key"]
        + ["-out", "\(name).csr", "-subj", "/CN=\(name)"])
    try openssl(
      ["x509", "-req", "-in", "\(name).csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        + ["-out", "\(name).pem", "-days", "\(days)", "-extfile", "\(name).ext"])
    return ("\(folder)/\(name).pem", "\(folder)/\(name).key")
  }

  func text(_ file: String) throws -> String { try String(contentsOfFile: file, encoding: .utf8) }
}
