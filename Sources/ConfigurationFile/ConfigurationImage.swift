/// The files of one load, byte by byte, from which the same load can be made again whatever has become of them.
package struct ConfigurationImage: Sendable, Equatable {
  /// Content by absolute path.
  private(set) var files: [String: [UInt8]] = [:]

  mutating func add(_ path: String, _ bytes: [UInt8]) { files[path] = bytes }

  /// For each file: path and content, each a length (4 bytes, little endian) and its bytes.
  package var bytes: [UInt8] {
    var bytes: [UInt8] = []
    for (path, content) in files.sorted(by: { $0.key < $1.key }) {
      for part in [Array(path.utf8), content] {
        for shift in stride(from: 0, to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: part.count >> shift)) }
        bytes += part
      }
    }
    return bytes
  }

  package init() {}

  /// What is kept beside the configuration, by name: it stands among the files under names that no file has.
  package var extras: [String: [UInt8]] {
    get {
      Dictionary(
        uniqueKeysWithValues: files.filter { $0.key.hasPrefix("\0") }.map { (String($0.key.dropFirst()), $0.value) })
    }
    set {
      files = files.filter { !$0.key.hasPrefix("\0") }
      for (name, bytes) in newValue { files["\0" + name] = bytes }
    }
  }

  /// The configuration alone; nil when there is none.
  package var configuration: ConfigurationImage? {
    var image = self
    image.extras = [:]
    return image.files.isEmpty ? nil : image
  }

  /// Nil when the bytes are no image.
  package init?(_ bytes: [UInt8]) {
    var rest = bytes[...]
    func part() -> ArraySlice<UInt8>? {
      guard rest.count >= 4 else { return nil }
      let length = rest.prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
      rest = rest.dropFirst(4)
      guard rest.count >= length else { return nil }
      defer { rest = rest.dropFirst(length) }
      return rest.prefix(length)
    }
    while !rest.isEmpty {
      guard let path = part(), let content = part() else { return nil }
      files[String(decoding: path, as: UTF8.self)] = Array(content)
    }
  }
}

/// Where a load reads from: the disk, or an image of an earlier load. Keeps an image of what it read.
final class ConfigurationFiles {
  private let source: ConfigurationImage?
  private(set) var image = ConfigurationImage()

  init(_ source: ConfigurationImage?) { self.source = source }

  func exists(_ path: String) -> Bool { source.map { $0.files[path] != nil } ?? FileSet.exists(path) }

  func bytes(of path: String, limit: Int) -> Result<[UInt8], FileSet.Failure> {
    let result: Result<[UInt8], FileSet.Failure>
    if let source {
      result =
        source.files[path].map { .success($0) }
        ?? .failure(FileSet.Failure(reason: "it is not in the last good configuration", wayOut: "reload"))
    } else {
      result = FileSet.bytes(of: path, limit: limit)
    }
    if case .success(let bytes) = result { image.add(path, bytes) }
    return result
  }

  /// Names that end in `.yaml` and do not begin with a dot, sorted.
  func yamlFiles(in directory: String) -> [String] {
    guard let source else { return FileSet.yamlFiles(in: directory) }
    return source.files.keys.filter { FilePath.directory(of: $0) == directory }.map(FilePath.name)
      .filter { $0.hasSuffix(".yaml") && !$0.hasPrefix(".") }.sorted()
  }
}
