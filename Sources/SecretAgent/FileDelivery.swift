import Glibc
import Logging
import Secrets
import Synchronization

/// The files that carry secrets to the app: written atomically when their content changes, put back when somebody
/// deletes them, removed at stop.
final class FileDelivery: Sendable {
  struct Target: Sendable {
    var path: String
    var mode: UInt32
    var owner: uid_t?
    var group: gid_t?
  }

  private let targets: [Target]
  private let delivered = Mutex<[Int: SecretBytes]>([:])

  init(_ files: [SecretFileConfiguration], _ absolute: (String) -> String) throws(FileFailure) {
    var targets: [Target] = []
    for file in files {
      targets.append(
        Target(
          path: absolute(file.path), mode: file.mode, owner: try file.owner.map(Account.user),
          group: try file.group.map(Account.group)))
    }
    self.targets = targets
  }

  /// Writes the file unless it already holds the same bytes. Returns whether it wrote.
  func deliver(_ index: Int, _ bytes: [UInt8]) throws(FileFailure) -> Bool {
    let target = targets[index]
    let content = SecretBytes(bytes)
    let isSame = PlainFile.mode(target.path) == target.mode && (try? PlainFile.read(target.path)) == bytes
    if !isSame {
      try PlainFile.replace(target.path, bytes, mode: target.mode, owner: target.owner, group: target.group)
    }
    delivered.withLock { $0[index] = content }
    return !isSame
  }

  /// Absolute paths of what was delivered.
  var paths: Set<String> { Set(delivered.withLock { $0.keys.map { targets[$0].path } }) }

  /// Writes files again that are gone.
  func restore(_ logger: Logger) {
    for (index, content) in delivered.withLock({ $0 }) where PlainFile.signature(targets[index].path) == nil {
      let target = targets[index]
      do throws(FileFailure) {
        try PlainFile.replace(
          target.path, content.copy(), mode: target.mode, owner: target.owner, group: target.group)
        logger.warning("secret file \(target.path) was deleted by somebody else; it is back")
      } catch {
        logger.error("secret file \(target.path) was deleted by somebody else and cannot be put back: \(error)")
      }
    }
  }

  /// Removes every delivered file.
  func remove() {
    let indices = delivered.withLock { delivered in
      defer { delivered = [:] }
      return Array(delivered.keys)
    }
    for index in indices { unlink(targets[index].path) }
  }
}
