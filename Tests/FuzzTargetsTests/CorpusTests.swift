import FuzzTargets
import Glibc
import Testing

/// Every file of the corpus, and so every finding that was kept there, goes through its target.
@Suite struct CorpusTests {
  private static let root =
    "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/") + "/Fuzz/Corpus"

  @Test(arguments: FuzzTarget.all.map(\.name))
  func holds(name: String) throws {
    let target = try #require(FuzzTarget.all.first { $0.name == name })
    let files = Self.files(in: "\(Self.root)/\(name)")
    #expect(files.count >= 3, "a corpus of \(files.count) files says little")
    for file in files {
      let bytes = try #require(Self.bytes(of: "\(Self.root)/\(name)/\(file)"))
      #expect(bytes.withUnsafeBytes(target.check) == nil, "\(name)/\(file)")
      // Cut anywhere, it must hold as well.
      for count in Swift.stride(from: 0, to: bytes.count, by: max(1, bytes.count / 12)) {
        let complaint = bytes[..<count].withUnsafeBytes(target.check)
        #expect(complaint == nil, "\(count) octets of \(name)/\(file)")
      }
    }
  }

  private static func files(in directory: String) -> [String] {
    guard let handle = opendir(directory) else { return [] }
    defer { closedir(handle) }
    var names: [String] = []
    while let entry = readdir(handle) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if !name.hasPrefix(".") { names.append(name) }
    }
    return names.sorted()
  }

  private static func bytes(of path: String) -> [UInt8]? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var room = [UInt8](repeating: 0, count: 65536)
    while case let count = fread(&room, 1, room.count, file), count > 0 { bytes += room[..<count] }
    return bytes
  }
}
