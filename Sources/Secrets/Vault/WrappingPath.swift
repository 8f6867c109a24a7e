/// Where a wrapped secret id must have been made.
package enum WrappingPath {
  /// `expected` exactly, or without it the secret ids of any role of the AppRole mount. `path` is `creation_path` of
  /// `sys/wrapping/lookup`.
  package static func fits(_ path: String, mount: String, expected: String?) -> Bool {
    if let expected { return path == expected }
    let pieces = path.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    let front = ["auth"] + mount.split(separator: "/").map(String.init) + ["role"]
    return pieces.count == front.count + 2 && pieces.starts(with: front) && pieces.last == "secret-id"
      && !pieces[front.count].isEmpty
  }

  /// For people.
  package static func wanted(_ mount: String, _ expected: String?) -> String {
    expected ?? "auth/\(mount)/role/ROLE/secret-id"
  }
}
