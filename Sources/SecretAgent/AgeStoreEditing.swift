import CLinux
import Glibc
import Secrets

/// `outrider secrets edit`: the content in an editor, on memory and never on a disk where that can be had.
extension AgeStoreEditor {
  package enum EditOutcome: Sendable, Equatable {
    case saved
    case unchanged
  }

  /// Opens the decrypted content in an editor and stores what it leaves. `editor` is a command of the shell, which gets
  /// the file's name as its last argument. `again` is asked, with what is wrong, whether the text is edited once more; when
  /// it is not, the store stays as it was. `warn` hears of plaintext that has to lie on a disk.
  package static func edit(
    file: String, identity: String, editor: String, warn: (String) -> Void, again: (String) -> Bool
  ) throws(FileFailure) -> EditOutcome {
    let before = PlainFile.signature(file)
    let content = try readForWriting(file: file, identity: identity).plaintext
    let desk = try EditDesk(suffix: suffix(of: content))
    defer { desk.clear() }
    if !desk.isInMemory {
      warn("no directory of memory is writable here: the plaintext lies in \(desk.directory) while you edit")
    }
    try PlainFile.replace(desk.path, content, mode: 0o600)
    while true {
      let code = run(editor, desk.path)
      guard code == 0 else { throw FileFailure("the editor `\(editor)` ended with \(code); \(file) is unchanged") }
      let text = try PlainFile.read(desk.path)
      if text == content { return .unchanged }
      do throws(StoreContentError) {
        _ = try StoreContent(parsing: text)
      } catch {
        if again("\(error)") { continue }
        throw FileFailure("\(file) is unchanged: \(error)")
      }
      guard PlainFile.signature(file) == before else {
        throw FileFailure("somebody else changed \(file) meanwhile; it stays as they left it, edit it again")
      }
      try replace(text, file: file, identity: identity)
      return .saved
    }
  }

  private static func suffix(of content: [UInt8]) -> String {
    switch (try? StoreContent(parsing: content))?.format {
    case .json: ".json"
    case .dotenv: ".env"
    case .yaml, nil: ".yaml"
    }
  }

  /// Through the shell, as git and crontab do it: an editor may have arguments.
  private static func run(_ editor: String, _ path: String) -> Int32 {
    let words: [String] = ["sh", "-c", "\(editor) \"$@\"", editor, path]
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var pid: pid_t = 0
    let error = posix_spawnp(&pid, "sh", nil, nil, &arguments, environ)
    guard error == 0 else { return 127 }
    var status: CInt = 0
    while waitpid(pid, &status, 0) < 0 { if errno != EINTR { return 127 } }
    return status & 0x7F != 0 ? 128 + (status & 0x7F) : (status >> 8) & 0xFF
  }
}

/// A directory (0700) for one edit, with everything that the editor leaves beside the file.
private struct EditDesk {
  let directory: String
  let path: String
  let isInMemory: Bool

  init(suffix: String) throws(FileFailure) {
    func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
    let all: [String?] = [variable("XDG_RUNTIME_DIR"), "/dev/shm", "/run", variable("TMPDIR"), "/tmp"]
    let places = all.compactMap(\.self).filter { !$0.isEmpty }
    let inMemory = places.filter { outrider_is_memory_file_system($0) == 1 }
    for place in inMemory + places.filter({ !inMemory.contains($0) }) {
      var template = Array("\(place)/outrider-edit-XXXXXX".utf8CString)
      guard mkdtemp(&template) != nil else { continue }
      directory = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
      path = "\(directory)/secrets\(suffix)"
      isInMemory = inMemory.contains(place)
      return
    }
    throw FileFailure("no directory for the edit: set TMPDIR to one that is writable")
  }

  /// Zeroes and removes the file, backups and swap files.
  func clear() {
    guard let handle = opendir(directory) else { return }
    var names: [String] = []
    while let entry = readdir(handle) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append("\(directory)/\(name)") }
    }
    closedir(handle)
    for name in names {
      if let size = PlainFile.signature(name)?.size, size > 0, size < 64 << 20 {
        let file = open(name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW)
        if file >= 0 {
          let zeros = [UInt8](repeating: 0, count: Int(size))
          _ = write(file, zeros, zeros.count)
          fsync(file)
          close(file)
        }
      }
      unlink(name)
    }
    rmdir(directory)
  }
}
