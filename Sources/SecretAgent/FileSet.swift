import Glibc
import Secrets
import Vocabulary

/// Files of one directory that switch together. Each path is a symbolic link to `.outrider-SET/NAME`; `.outrider-SET` is a
/// link to a directory with the files of one generation, and one rename of it switches all of them:
///
///     tls.crt -> .outrider-web/tls.crt
///     tls.key -> .outrider-web/tls.key
///     .outrider-web -> .outrider-web.1q2w3e
struct FileSet: Hashable, Sendable {
  var directory: String
  var name: String

  private static let prefix = ".outrider-"
  private var link: String { "\(Self.prefix)\(name)" }
  private var place: String { "\(directory)/\(link)" }

  /// Where the link at a path of the set points.
  func target(of path: String) -> String { "\(link)/\(Self.last(path))" }

  /// Where a path points when it belongs to a set.
  static func link(of path: String) -> String? {
    guard let text = content(of: path), text.hasPrefix(prefix) else { return nil }
    return text
  }

  /// Whether the generation in use has these files and no more.
  func holdsOnly(_ paths: [String]) -> Bool {
    (try? PlainFile.list(place)) == paths.map(Self.last).sorted()
  }

  /// Writes a new generation and switches to it. When it throws, the former one is as it was.
  func replace(_ files: [(target: FileDelivery.Target, text: [UInt8])]) throws(FileFailure) {
    let generation = "\(link).\(String(UInt64.random(in: .min ... .max), radix: 36))"
    let fresh = "\(directory)/\(generation)"
    guard mkdir(fresh, 0o700) == 0 else {
      let code = errno
      let hint = code == ENOENT ? ": the directory \(directory) does not exist; create it first" : ""
      throw .system("write", files[0].target.path, code, hint: hint)
    }
    do throws(FileFailure) {
      for (target, text) in files {
        try PlainFile.replace(
          "\(fresh)/\(Self.last(target.path))", text, mode: target.mode, owner: target.owner, group: target.group)
      }
      guard chmod(fresh, 0o755) == 0 else { throw .system("write", fresh, errno) }
      try Self.point(place, to: generation)
    } catch {
      Self.clear(fresh)
      throw error
    }
    for (target, _) in files where Self.content(of: target.path) != self.target(of: target.path) {
      try Self.point(target.path, to: self.target(of: target.path))
    }
    PlainFile.synchronize(directory)
    removeGenerations(but: generation)
  }

  /// Removes what is left of it when its paths are gone.
  func remove() {
    unlink(place)
    removeGenerations(but: nil)
  }

  private func removeGenerations(but kept: String?) {
    for name in PlainFile.hiddenNames(directory) where name.hasPrefix(link + ".") && name != kept {
      Self.clear("\(directory)/\(name)")
    }
  }

  private static func clear(_ directory: String) {
    for name in (try? PlainFile.list(directory)) ?? [] { unlink("\(directory)/\(name)") }
    for name in PlainFile.hiddenNames(directory) { unlink("\(directory)/\(name)") }
    rmdir(directory)
  }

  /// Makes `path` a link in one step, whatever it was before.
  private static func point(_ path: String, to text: String) throws(FileFailure) {
    let temporary =
      "\(PlainFile.parent(of: path))/.outrider-\(getpid())-\(String(UInt64.random(in: .min ... .max), radix: 36))"
    guard symlink(text, temporary) == 0 else { throw .system("write", path, errno) }
    guard rename(temporary, path) == 0 else {
      let code = errno
      unlink(temporary)
      throw .system("write", path, code)
    }
  }

  private static func content(of path: String) -> String? {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = buffer.withUnsafeMutableBytes { bytes in
      bytes.baseAddress.map { readlink(path, $0, bytes.count) } ?? -1
    }
    return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
  }

  private static func last(_ path: String) -> String { path.split(separator: "/").last.map(String.init) ?? path }
}
