import CZlib
import Crypto
import Glibc
import Testing

@testable import Secrets

/// The specification's own vectors (C2SP/CCTV). They live beside the repository and are skipped where they do not.
struct AgeVectorTests {
  @Test func everyApplicableVectorHasItsResult() throws {
    let folder = Vectors.folder + "/age"
    let names = Vectors.list(folder)
    guard !names.isEmpty else {
      print("skipped: no age vectors at \(folder)")
      return
    }
    var ran = 0
    for name in names {
      let vector = try #require(Vector(Vectors.read("\(folder)/\(name)")), "\(name) has no header")
      guard vector.isApplicable else { continue }
      ran += 1
      var identities: [AgeIdentity] = []
      for text in vector.values["identity"] ?? [] { identities.append(try AgeIdentity(text)) }
      for text in vector.values["passphrase"] ?? [] { identities.append(.passphrase(SecretBytes(text))) }
      let expected = vector.values["expect"]?.first
      do throws(AgeError) {
        let plaintext = try AgeFile.open(
          vector.file, identities, armored: vector.values["armored"] == nil ? nil : true)
        #expect(expected == "success", "\(name) opened")
        #expect(hex(SHA256.hash(data: plaintext)) == vector.values["payload"]?.first, "\(name) has another plaintext")
      } catch {
        #expect(expected == error.vectorName, "\(name): \(error)")
      }
    }
    #expect(ran >= 110)
  }
}

private func hex(_ bytes: some Sequence<UInt8>) -> String {
  bytes.map { byte in
    let text = String(byte, radix: 16)
    return text.count == 1 ? "0" + text : text
  }.joined()
}

extension AgeError {
  fileprivate var vectorName: String {
    switch self {
    case .headerFailure: "header failure"
    case .hmacFailure: "HMAC failure"
    case .payloadFailure: "payload failure"
    case .armorFailure: "armor failure"
    case .noMatch: "no match"
    case .notAKey: "not a key"
    }
  }
}

/// A vector: `key: value` lines, an empty line, the file.
private struct Vector {
  var values: [String: [String]] = [:]
  var file: [UInt8] = []

  init?(_ bytes: [UInt8]) {
    var rest = bytes[...]
    while let feed = rest.firstIndex(of: 0x0A) {
      let line = String(decoding: rest[..<feed], as: UTF8.self)
      rest = rest[(feed + 1)...]
      if line.isEmpty {
        file = Array(rest)
        if values["compressed"] == ["zlib"] { file = inflate(file) }
        return
      }
      guard let colon = line.firstIndex(of: ":") else { return nil }
      values[String(line[..<colon]), default: []].append(String(line[colon...].dropFirst(2)))
    }
    return nil
  }

  var isApplicable: Bool {
    let known: Set = ["expect", "payload", "file key", "identity", "passphrase", "comment", "armored", "compressed"]
    return known.isSuperset(of: values.keys)
      && !(values["identity"] ?? []).contains { $0.hasPrefix("AGE-SECRET-KEY-PQ-1") }
  }
}

private func inflate(_ bytes: [UInt8]) -> [UInt8] {
  var output = [UInt8](repeating: 0, count: 32 << 20)
  var length = uLongf(output.count)
  let result = uncompress(&output, &length, bytes, uLong(bytes.count))
  precondition(result == Z_OK)
  return Array(output[..<Int(length)])
}

/// Data for tests beside the repository.
enum Vectors {
  static let folder: String = {
    let file = #filePath
    let parts = file.split(separator: "/").dropLast(3)
    return "/" + parts.dropLast().joined(separator: "/") + "/shared/vectors"
  }()

  static func list(_ folder: String) -> [String] {
    guard let directory = opendir(folder) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if !name.hasPrefix(".") { names.append(name) }
    }
    return names.sorted()
  }

  static func read(_ path: String) -> [UInt8] {
    guard let file = fopen(path, "rb") else { return [] }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { bytes += buffer[..<count] }
    return bytes
  }
}
