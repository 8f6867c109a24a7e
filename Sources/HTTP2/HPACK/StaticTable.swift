/// The static table of RFC 7541 appendix A.
enum StaticTable {
  struct Entry {
    var start: UInt16
    var nameCount: UInt8
    var valueCount: UInt8
    var token: FieldToken
    init(_ start: UInt16, _ nameCount: UInt8, _ valueCount: UInt8, _ token: FieldToken = .other) {
      self.start = start
      self.nameCount = nameCount
      self.valueCount = valueCount
      self.token = token
    }
  }

  static let count = 61

  private static let text: StaticString = """
    :authority:methodGET:methodPOST:path/:path/index.html:schemehttp:schemehttps:status200:status204:sta\
    tus206:status304:status400:status404:status500accept-charsetaccept-encodinggzip, deflateaccept-langu\
    ageaccept-rangesacceptaccess-control-allow-originageallowauthorizationcache-controlcontent-dispositi\
    oncontent-encodingcontent-languagecontent-lengthcontent-locationcontent-rangecontent-typecookiedatee\
    tagexpectexpiresfromhostif-matchif-modified-sinceif-none-matchif-rangeif-unmodified-sincelast-modifi\
    edlinklocationmax-forwardsproxy-authenticateproxy-authorizationrangerefererrefreshretry-afterservers\
    et-cookiestrict-transport-securitytransfer-encodinguser-agentvaryviawww-authenticate
    """

  private static let entries: [Entry] = [
    Entry(0, 10, 0, .authority), Entry(10, 7, 3, .method), Entry(20, 7, 4, .method), Entry(31, 5, 1, .path),
    Entry(37, 5, 11, .path), Entry(53, 7, 4, .scheme), Entry(64, 7, 5, .scheme), Entry(76, 7, 3, .status),
    Entry(86, 7, 3, .status), Entry(96, 7, 3, .status), Entry(106, 7, 3, .status), Entry(116, 7, 3, .status),
    Entry(126, 7, 3, .status), Entry(136, 7, 3, .status), Entry(146, 14, 0), Entry(160, 15, 13),
    Entry(188, 15, 0), Entry(203, 13, 0), Entry(216, 6, 0), Entry(222, 27, 0),
    Entry(249, 3, 0), Entry(252, 5, 0), Entry(257, 13, 0), Entry(270, 13, 0),
    Entry(283, 19, 0), Entry(302, 16, 0), Entry(318, 16, 0), Entry(334, 14, 0, .contentLength),
    Entry(348, 16, 0), Entry(364, 13, 0), Entry(377, 12, 0), Entry(389, 6, 0, .cookie),
    Entry(395, 4, 0), Entry(399, 4, 0), Entry(403, 6, 0), Entry(409, 7, 0),
    Entry(416, 4, 0), Entry(420, 4, 0, .host), Entry(424, 8, 0), Entry(432, 17, 0),
    Entry(449, 13, 0), Entry(462, 8, 0), Entry(470, 19, 0), Entry(489, 13, 0),
    Entry(502, 4, 0), Entry(506, 8, 0), Entry(514, 12, 0), Entry(526, 18, 0),
    Entry(544, 19, 0), Entry(563, 5, 0), Entry(568, 7, 0), Entry(575, 7, 0),
    Entry(582, 11, 0), Entry(593, 6, 0), Entry(599, 10, 0), Entry(609, 25, 0),
    Entry(634, 17, 0, .transferEncoding), Entry(651, 10, 0), Entry(661, 4, 0), Entry(665, 3, 0),
    Entry(668, 16, 0),
  ]

  /// `index` is 1 to 61.
  @inline(__always)
  static func entry(_ index: Int) -> Entry { entries[index &- 1] }

  @inline(__always)
  static func name(_ entry: Entry) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: text.utf8Start + Int(entry.start), count: Int(entry.nameCount))
  }

  @inline(__always)
  static func value(_ entry: Entry) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(
      start: text.utf8Start + Int(entry.start) + Int(entry.nameCount), count: Int(entry.valueCount))
  }

  /// By the low seven bits of a name's hash, with linear probing: the first index of that name, 0 = none.
  private static let slots: [UInt8] = {
    var slots = [UInt8](repeating: 0, count: 128)
    for index in 1...count {
      let name = Self.name(entry(index))
      if index > 1, OctetHash.equal(name, Self.name(entry(index - 1))) { continue }
      var slot = Int(truncatingIfNeeded: OctetHash.of(name) & 127)
      while slots[slot] != 0 { slot = (slot + 1) & 127 }
      slots[slot] = UInt8(index)
    }
    return slots
  }()

  /// The first index that has this name (lower case), or 0.
  static func find(_ name: UnsafeRawBufferPointer, hash: UInt64) -> Int {
    slots.withUnsafeBufferPointer { slots in
      var slot = Int(truncatingIfNeeded: hash & 127)
      while slots[slot] != 0 {
        let index = Int(slots[slot])
        if OctetHash.equal(Self.name(entry(index)), name) { return index }
        slot = (slot &+ 1) & 127
      }
      return 0
    }
  }

  /// The index whose name is that of `first` and whose value is `value`, or 0.
  static func find(_ value: UnsafeRawBufferPointer, from first: Int) -> Int {
    var index = first
    let start = entry(first)
    if start.valueCount == 0 { return value.isEmpty ? first : 0 }
    while index <= count {
      let candidate = entry(index)
      guard candidate.nameCount == start.nameCount, candidate.token == start.token else { return 0 }
      if OctetHash.equal(Self.value(candidate), value) { return index }
      index &+= 1
    }
    return 0
  }
}
