/// Which finished requests somebody who watches wants to see; every condition that is set must hold.
package struct TapFilter: Sendable, Equatable {
  package var statuses: ClosedRange<Int>? = nil
  package var listener: [UInt8]? = nil
  package var route: [UInt8]? = nil
  package var cluster: [UInt8]? = nil
  package var blame: [UInt8]? = nil
  package var method: [UInt8]? = nil
  /// What the path begins with.
  package var path: [UInt8]? = nil
  /// At least so many nanoseconds.
  package var slow: UInt64 = 0
  /// The tap ends after so many records; nil = never.
  package var limit: Int? = nil

  package init() {}

  /// What a filter looks at; `blame` is empty when nobody is to blame.
  package struct Subject {
    package var status: Int
    package var listener: [UInt8]
    package var route: [UInt8]
    package var cluster: [UInt8]
    package var blame: [UInt8]
    package var method: [UInt8]
    package var path: [UInt8]
    /// Nanoseconds.
    package var duration: UInt64

    package init(
      status: Int, listener: [UInt8], route: [UInt8], cluster: [UInt8], blame: [UInt8], method: [UInt8],
      path: [UInt8], duration: UInt64
    ) {
      self.status = status
      self.listener = listener
      self.route = route
      self.cluster = cluster
      self.blame = blame
      self.method = method
      self.path = path
      self.duration = duration
    }
  }

  package func takes(_ subject: Subject) -> Bool {
    if let statuses, !statuses.contains(subject.status) { return false }
    if let listener, listener != subject.listener { return false }
    if let route, route != subject.route { return false }
    if let cluster, cluster != subject.cluster { return false }
    if let blame, blame != subject.blame { return false }
    if let method, method != subject.method { return false }
    if let path, !subject.path.starts(with: path) { return false }
    return subject.duration >= slow
  }

  /// `5xx`, `404` or `200-299`; nil = none of these.
  package static func statuses(_ text: String) -> ClosedRange<Int>? {
    let bytes = Array(text.utf8)
    if bytes.count == 3, bytes[1] | 0x20 == 0x78, bytes[2] | 0x20 == 0x78, (0x31...0x35).contains(bytes[0]) {
      let first = Int(bytes[0] - 0x30) * 100
      return first...(first + 99)
    }
    let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { part in
      part.utf8.count == 3 && part.utf8.allSatisfy({ (0x30...0x39).contains($0) }) ? Int(part) : nil
    }
    guard (1...2).contains(ends.count), let low = ends[0], let high = ends[ends.count - 1], low <= high else {
      return nil
    }
    return low...high
  }
}
