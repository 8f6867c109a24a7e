import Glibc
package import Logs
package import RegularExpressions

/// Searches the local store; any process may, while the sidecar writes.
package struct StoreReader: Sendable {
  private let directory: String

  /// `directory` is `store/` under the state directory.
  package init(directory: String) { self.directory = directory }

  /// Calls `record` for each record that the query wants, oldest first, with the line without its LF, until it returns
  /// false. With `follow`, goes on for ever and calls `idle` about every 100 ms until that returns false.
  /// Throws when the query's expression is invalid. An absent store has no records.
  package func query(
    _ query: StoreQuery, idle: () -> Bool = { true }, _ record: (Bytes) -> Bool
  ) throws(RegularExpression.Invalid) {
    let filter = try StoreFilter(query)
    var names = StateFile.names(in: directory).filter { StoreSegment.start($0) != nil }
    // A record arrives before the next segment begins; a minute is left for clocks of the app.
    if let since = query.since {
      let floor = since / 1_000_000 - 60_000
      while names.count > 1, let next = StoreSegment.start(names[1]), next < floor { names.removeFirst() }
    }
    var place: (name: String, offset: Int) = (names.last ?? "", 0)
    if let limit = query.limit {
      let (newest, end) = tail(names, filter, limit)
      place.offset = end
      for line in newest.reversed() where !line.withUnsafeBytes({ record($0) }) { return }
    } else {
      for name in names {
        guard let end = scan(name, from: 0, filter, record) else { return }
        place = (name, end)
      }
    }
    if query.follow { follow(place, filter, idle, record) }
  }

  /// Goes through a segment; returns the end of its last whole line, nil when `record` wants no more.
  private func scan(_ name: String, from start: Int, _ filter: StoreFilter, _ record: (Bytes) -> Bool) -> Int? {
    withSegment(name, from: start) { bytes in
      var at = 0
      while let end = bytes.firstOffset(of: 0x0A, from: at) {
        let line = bytes.part(at..<end)
        at = end + 1
        if filter.accepts(line), !record(line) { return nil }
      }
      return start + at
    } ?? start
  }

  /// The newest `limit` records, newest first, and the end of the newest segment's last whole line.
  private func tail(_ names: [String], _ filter: StoreFilter, _ limit: Int) -> ([[UInt8]], Int) {
    var newest: [[UInt8]] = []
    var end = 0
    for (index, name) in names.reversed().enumerated() {
      if newest.count >= limit, index > 0 { break }
      _ = withSegment(name, from: 0) { bytes -> Int? in
        var stop = (bytes.lastOffset(of: 0x0A) ?? -1) + 1
        if index == 0 { end = stop }
        while stop > 0, newest.count < limit {
          let head = memrchr(bytes.baseAddress!, 0x0A, stop - 1)
          let start = head.map { UnsafeRawPointer($0) - bytes.baseAddress! + 1 } ?? 0
          let line = bytes.part(start..<stop - 1)
          if filter.accepts(line) { newest.append(Array(line)) }
          stop = start
        }
        return nil
      }
    }
    return (newest, end)
  }

  private func memrchr(_ base: UnsafeRawPointer, _ byte: UInt8, _ count: Int) -> UnsafeRawPointer? {
    var at = count - 1
    while at >= 0 {
      if base.load(fromByteOffset: at, as: UInt8.self) == byte { return base + at }
      at -= 1
    }
    return nil
  }

  /// The bytes of a segment from `start` on, mapped; the outer nil means that there are none.
  private func withSegment(_ name: String, from start: Int, _ body: (Bytes) -> Int?) -> Int?? {
    let fd = open(directory + "/" + name, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else { return nil }
    defer { close(fd) }
    var info = stat()
    guard fstat(fd, &info) == 0, Int(info.st_size) > start else { return nil }
    let size = Int(info.st_size)
    guard let map = mmap(nil, size, PROT_READ, MAP_SHARED, fd, 0), map != MAP_FAILED else { return nil }
    defer { munmap(map, size) }
    madvise(map, size, MADV_SEQUENTIAL)
    return .some(body(Bytes(start: map + start, count: size - start)))
  }

  private func follow(
    _ place: (name: String, offset: Int), _ filter: StoreFilter, _ idle: () -> Bool, _ record: (Bytes) -> Bool
  ) {
    var place = place
    while true {
      guard let end = place.name.isEmpty ? 0 : scan(place.name, from: place.offset, filter, record) else { return }
      let moved = end > place.offset
      place.offset = end
      let later = StateFile.names(in: directory).filter { StoreSegment.start($0) != nil && $0 > place.name }
      if let next = later.first {
        // Once more: the segment may have grown between the two looks.
        if !place.name.isEmpty, scan(place.name, from: place.offset, filter, record) == nil { return }
        place = (next, 0)
      } else if !moved {
        guard idle() else { return }
        usleep(100_000)
      }
    }
  }
}
