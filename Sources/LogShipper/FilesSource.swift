import Glibc
import Logs
import Vocabulary

/// Follows the files of globs through rename, copytruncate, truncation and deletion. Owned by the source thread.
///
/// A file is known by device and inode, and by a hash of its head: when the head changed or the file is shorter than
/// what was read, it is another file in the same place and is read from its beginning. A line's position moves into the
/// checkpoint after the spool has it.
final class FilesSource {
  static let maximumOpen = 256
  private static let compressed = [".gz", ".bz2", ".xz", ".zst"]

  private struct Key: Hashable {
    var device: UInt64
    var inode: UInt64
  }

  private struct Followed {
    var mark: FileCheckpoint
    var descriptor: CInt = -1
    /// Since when no glob finds it, monotonic nanoseconds; 0 while one does.
    var gone: Int64 = 0
    /// Monotonic nanoseconds of the last bytes.
    var active: Int64 = 0
    /// Nanoseconds since 1970 of the last change seen: a truncated file may have grown to its old size again.
    var modified: Int64 = .min
    var memory = GroupMemory()
  }

  let name: String
  let input: LogSourceConfiguration.FilesInput
  /// Changes between two rounds, with the configuration.
  var shipper: LineShipper
  private let spool: Spool
  private let checkpoint: String
  private var files: [Key: Followed] = [:]
  private var firstScan: Bool
  private var buffer = ByteArena(capacity: 4096)
  /// Which files there are, or who they are, is not as the checkpoint has it.
  private var changed = false
  /// Positions are not; after a crash the spool knows them.
  private var moved = false
  private var saved: Int64 = .min
  private var scanned: Int64 = .min
  /// Tells of changes in the files' directories; -1 when the system has no more of these.
  let changes = inotify_init1(CInt(IN_NONBLOCK) | CInt(IN_CLOEXEC))
  /// Something changed, and nobody looked yet.
  private(set) var isDue = false
  private var isBusy = false
  private var watched: Set<String> = []
  private var looked: Int64 = .min
  /// Between two looks, nanoseconds: lines that come one by one are read some at a time.
  private static let pause: Int64 = 10_000_000
  /// Between two checkpoints of files that only grow, nanoseconds.
  private static let interval: Int64 = 250_000_000

  init(name: String, input: LogSourceConfiguration.FilesInput, shipper: LineShipper, spool: Spool, directory: String) {
    self.name = name
    self.input = input
    self.shipper = shipper
    self.spool = spool
    checkpoint = "\(directory)/files.\(name)"
    let saved = StateFile.contents(checkpoint).flatMap { FileCheckpoint.decode(String(decoding: $0, as: UTF8.self)) }
    firstScan = saved == nil
    for var mark in saved ?? [] {
      // The spool may be ahead of the checkpoint after a crash.
      if let reached = spool.reached(mark.identity) { mark.offset = max(mark.offset, Int(clamping: reached)) }
      files[Key(device: mark.device, inode: mark.inode)] = Followed(mark: mark)
    }
    if !firstScan { reopen() }
  }

  deinit {
    if changes >= 0 { close(changes) }
    closeAll()
  }

  private func closeAll() { for file in files.values where file.descriptor >= 0 { close(file.descriptor) } }

  /// Files that were renamed while nobody looked are found by their inode beside their old name.
  private func reopen() {
    for (key, file) in files {
      let directory = file.mark.path.split(separator: "/", omittingEmptySubsequences: false).dropLast()
        .joined(separator: "/")
      let places =
        [file.mark.path] + StateFile.names(in: directory.isEmpty ? "/" : directory).map { directory + "/" + $0 }
      for place in places where Self.key(place)?.0 == key {
        if Self.compressed.contains(where: { place.hasSuffix($0) }) { continue }
        files[key]?.mark.path = place
        break
      }
    }
  }

  private static func key(_ path: String) -> (Key, Int)? {
    var info = stat()
    guard stat(path, &info) == 0, info.st_mode & S_IFMT == S_IFREG else { return nil }
    return (Key(device: UInt64(info.st_dev), inode: UInt64(info.st_ino)), Int(info.st_size))
  }

  /// One round: looks for files when a second has passed, reads what is new. True when there is more to read at once.
  func round(atEnd: Bool = false) -> Bool {
    let now = Clock.monotonic()
    notice()
    if !atEnd, !isBusy, looked != .min, now - looked < Self.pause { return false }
    looked = now
    isDue = false
    if scanned == .min || now - scanned >= 1_000_000_000 || atEnd {
      scan(now)
      scanned = now
    }
    var more = false
    for key in files.keys.sorted(by: { ($0.device, $0.inode) < ($1.device, $1.inode) }) {
      if read(key, now) { more = true }
    }
    if changed || atEnd || (moved && (saved == .min || now - saved >= Self.interval)) { save() }
    isBusy = more
    return more
  }

  /// Writes the checkpoint when anything has changed.
  func save() {
    guard changed || moved else { return }
    guard StateFile.replace(checkpoint, FileCheckpoint.encode(files.values.map(\.mark))) else { return }
    (changed, moved) = (false, false)
    saved = Clock.monotonic()
  }

  /// Takes what the system tells of the directories.
  private func notice() {
    guard changes >= 0 else { return }
    var room = [UInt8](repeating: 0, count: 4096)
    while true {
      let n = Glibc.read(changes, &room, room.count)
      guard n > 0 else { return }
      isDue = true
      var at = 0
      room.withUnsafeBytes { bytes in
        // wd, mask, cookie, length of the name: 32 bits each.
        while at + 16 <= n {
          let mask = bytes.loadUnaligned(fromByteOffset: at + 4, as: UInt32.self)
          // A file came: look for it soon, however many come.
          if mask & UInt32(IN_CREATE | IN_MOVED_TO) != 0, scanned != .min {
            scanned = min(scanned, looked - 950_000_000)
          }
          at += 16 + Int(bytes.loadUnaligned(fromByteOffset: at + 12, as: UInt32.self))
        }
      }
    }
  }

  private func watch(_ directory: String) {
    let place = directory.isEmpty ? "/" : directory
    guard changes >= 0, !watched.contains(place) else { return }
    if inotify_add_watch(changes, place, UInt32(IN_MODIFY | IN_CREATE | IN_MOVED_TO)) >= 0 { watched.insert(place) }
  }

  private static func directory(_ path: String) -> String {
    path.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
  }

  private func scan(_ now: Int64) {
    for pattern in input.globs { watch(Self.directory(pattern)) }
    var found: Set<Key> = []
    for path in Self.paths(input) {
      guard let (key, size) = Self.key(path) else { continue }
      watch(Self.directory(path))
      if !found.insert(key).inserted { continue }
      if files[key] == nil {
        adopt(key, path, offset: firstScan && !input.fromBeginning ? size : 0)
      } else if files[key]?.mark.path != path {
        files[key]?.mark.path = path
        changed = true
      }
      files[key]?.gone = 0
    }
    if firstScan { changed = true }
    firstScan = false
    for key in files.keys where !found.contains(key) && files[key]?.gone == 0 { files[key]?.gone = now }
  }

  static func paths(_ input: LogSourceConfiguration.FilesInput) -> [String] {
    var paths: [String] = []
    for pattern in input.globs {
      var result = glob_t()
      defer { globfree(&result) }
      guard glob(pattern, GLOB_NOSORT, nil, &result) == 0 else { continue }
      for index in 0..<Int(result.gl_pathc) {
        guard let name = result.gl_pathv[index] else { continue }
        let path = String(cString: name)
        let excluded = input.exclude.contains { exclude in
          fnmatch(exclude, path, 0) == 0 || fnmatch(exclude, String(path.split(separator: "/").last ?? ""), 0) == 0
        }
        if !excluded, !compressed.contains(where: { path.hasSuffix($0) }) { paths.append(path) }
      }
    }
    return paths
  }

  private func adopt(_ key: Key, _ path: String, offset: Int) {
    let mark = FileCheckpoint(
      device: key.device, inode: key.inode, identity: UInt64.random(in: 1...UInt64.max),
      headHash: Checksum.fnv64(Bytes(start: nil, count: 0)), headLength: 0, offset: offset, path: path)
    files[key] = Followed(mark: mark)
    changed = true
  }

  /// Reads a file's new lines, at most about a megabyte; true when there may be more.
  private func read(_ key: Key, _ now: Int64) -> Bool {
    guard var file = files[key] else { return false }
    defer { if files[key] != nil { files[key] = file } }
    guard open(&file, key) else {
      if file.gone != 0, now - file.gone > input.rotateWait.inNanoseconds { drop(key, file) }
      return false
    }
    var info = stat()
    guard fstat(file.descriptor, &info) == 0 else { return false }
    let size = Int(info.st_size)
    let modified = Int64(info.st_mtim.tv_sec) * 1_000_000_000 + Int64(info.st_mtim.tv_nsec)
    if modified != file.modified || size < file.mark.offset { checkContinuity(&file, size) }
    file.modified = modified
    if size > file.mark.offset {
      let before = file.mark.offset
      let more = readLines(&file, size)
      if file.mark.offset != before || file.active == 0 { file.active = now }
      if file.mark.offset != before { return more }
      finishLine(&file, now)
      return false
    }
    finish(key, &file, now)
    return false
  }

  private func open(_ file: inout Followed, _ key: Key) -> Bool {
    if file.descriptor >= 0 { return true }
    guard let (present, size) = Self.key(file.mark.path), present == key else { return false }
    // Files without news stay closed when there are many.
    if size == file.mark.offset, file.active != 0, files.count > Self.maximumOpen { return false }
    file.descriptor = Glibc.open(file.mark.path, O_RDONLY | O_CLOEXEC)
    return file.descriptor >= 0
  }

  private func checkContinuity(_ file: inout Followed, _ size: Int) {
    let limit = max(input.fingerprint, file.mark.headLength)
    var head = [UInt8](repeating: 0, count: limit)
    let count = max(0, pread(file.descriptor, &head, limit, 0))
    head.withUnsafeBytes { bytes in
      let head = bytes.part(0..<count)
      if file.mark.continuity(size: size, head: head) == .replaced {
        followCopy(file.mark)
        file.mark.identity = UInt64.random(in: 1...UInt64.max)
        file.mark.offset = 0
        file.mark.headLength = 0
        file.memory = GroupMemory()
        changed = true
      }
      if count > file.mark.headLength {
        file.mark.headLength = count
        file.mark.headHash = Checksum.fnv64(head)
        changed = true
      }
    }
  }

  /// A file that was copied and truncated: what stood behind the position is in the copy, beside it under a longer name.
  /// The copy is read to its end from there.
  private func followCopy(_ mark: FileCheckpoint) {
    guard mark.offset > 0, mark.headLength > 0 else { return }
    let directory = Self.directory(mark.path)
    let name = mark.path.split(separator: "/").last.map(String.init) ?? ""
    for other in StateFile.names(in: directory.isEmpty ? "/" : directory)
    where other != name && other.hasPrefix(name) && !Self.compressed.contains(where: { other.hasSuffix($0) }) {
      let place = directory + "/" + other
      guard let (key, size) = Self.key(place), files[key] == nil, size > mark.offset else { continue }
      var copy = Followed(mark: mark)
      copy.mark.device = key.device
      copy.mark.inode = key.inode
      copy.mark.path = place
      copy.gone = Clock.monotonic()
      copy.descriptor = Glibc.open(place, O_RDONLY | O_CLOEXEC)
      guard copy.descriptor >= 0 else { continue }
      var head = [UInt8](repeating: 0, count: mark.headLength)
      let count = max(0, pread(copy.descriptor, &head, head.count, 0))
      guard head.withUnsafeBytes({ mark.continuity(size: size, head: $0.part(0..<count)) }) == .same else {
        close(copy.descriptor)
        continue
      }
      files[key] = copy
      changed = true
      return
    }
  }

  private func readLines(_ file: inout Followed, _ size: Int) -> Bool {
    let longest = shipper.maxRecord + (64 << 10)
    var want = min(256 << 10, longest)
    while true {
      buffer.removeAll()
      let n = pread(file.descriptor, buffer.reserve(want), want, off_t(file.mark.offset))
      guard n > 0 else { return false }
      buffer.advance(n)
      let isAll = n < want || want == longest
      if let last = buffer.bytes.lastOffset(of: 0x0A) {
        let shipped = shipLines(&file, last + 1, final: false)
        if shipped.isBlocked || shipped.safe > 0 {
          _ = advance(&file, shipped.safe, wanted: 1)
          return !shipped.isBlocked && file.mark.offset + (last + 1 - shipped.safe) < size
        }
        // Lines that wait for others of their record: as many as a record may have, and as long as it may take.
        if isAll {
          guard n == want else { return false }
          return advance(&file, shipLines(&file, last + 1, final: true).safe, wanted: 1)
        }
      } else if n > shipper.maxRecord {
        let safe = shipper.shipBeginning(
          of: buffer.bytes, stream: .none, identity: file.mark.identity, offset: UInt64(file.mark.offset))
        return advance(&file, safe, wanted: 1)
      } else if isAll {
        return false
      }
      want = longest
    }
  }

  private func shipLines(_ file: inout Followed, _ length: Int, final: Bool) -> Shipped {
    shipper.ship(
      buffer.bytes.part(0..<length), stream: .none, identity: file.mark.identity, offset: UInt64(file.mark.offset),
      final: final, &file.memory)
  }

  private func advance(_ file: inout Followed, _ safe: Int, wanted: Int) -> Bool {
    if safe > 0 {
      file.mark.offset += safe
      moved = true
    }
    return safe >= wanted
  }

  /// The unfinished last line of a file that was rotated away or deleted.
  private func finishLine(_ file: inout Followed, _ now: Int64) {
    guard file.gone != 0, now - max(file.gone, file.active) > input.rotateWait.inNanoseconds, buffer.count > 0,
      buffer.bytes.firstOffset(of: 0x0A) == nil || file.memory.isHeld
    else { return }
    _ = advance(&file, shipLines(&file, buffer.count, final: true).safe, wanted: buffer.count)
  }

  /// At the end of a file: one that was rotated away or deleted gives its last line and is let go after a while.
  private func finish(_ key: Key, _ file: inout Followed, _ now: Int64) {
    if file.gone != 0, now - max(file.gone, file.active) > input.rotateWait.inNanoseconds {
      drop(key, file)
    } else if files.count > Self.maximumOpen, file.gone == 0 {
      close(file.descriptor)
      file.descriptor = -1
    }
  }

  private func drop(_ key: Key, _ file: Followed) {
    if file.descriptor >= 0 { close(file.descriptor) }
    files[key] = nil
    changed = true
  }
}
