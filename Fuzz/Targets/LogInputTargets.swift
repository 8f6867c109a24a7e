import Logs
import RegularExpressions

/// What comes into the log pipeline from files, pipes and the network.
enum LogInputTargets {
  /// However a source's bytes come, every line is in exactly one record, and the position never passes one that is open.
  static func lineGroups(_ input: UnsafeRawBufferPointer) -> String? {
    guard let first = input.first else { return nil }
    var splits = Splits(input)
    let envelope: Envelope = [.none, .cri, .docker][Int(first % 3)]
    let languages = first & 4 == 0 ? TraceLanguages.all : TraceLanguages(rawValue: first >> 1 & 127)
    let limit = first & 8 == 0 ? 64 : 4096
    guard
      let groups = LineGroups(
        envelope: envelope, multiline: MultilineConfiguration(joining: .traces(languages)), limit: limit)
    else { return "no groups" }
    let stream = splits.stream
    var memory = GroupMemory()
    var (position, arrived, records, octets) = (0, 0, 0, 0)
    var clock: Int64 = 0
    while arrived < stream.count {
      arrived += splits.next(of: stream.count - arrived)
      clock += Int64(arrived % 7) * 200_000_000
      let final = arrived == stream.count
      let shown = stream.part(position..<arrived)
      let region = final ? shown : shown.part(0..<(shown.lastOffset(of: 0x0A) ?? -1) + 1)
      groups.scan(region, at: UInt64(position), now: clock, final: final, &memory)
      for index in groups.groups.indices where groups.groups[index].isWhole {
        records += 1
        octets += groups.text(index, of: region).count
        groups.ship(index)
      }
      groups.store()
      let safe = groups.reach(region.count)
      groups.finish(safe, at: UInt64(position), &memory)
      guard safe >= 0, safe <= region.count else { return "safe up to \(safe) of \(region.count)" }
      position += safe
    }
    if position != stream.count { return "\(position) of \(stream.count) octets" }
    if octets > stream.count { return "\(octets) octets of \(stream.count)" }
    if envelope == .none {
      let ends = stream.count { $0 == 0x0A || $0 == 0x0D }
      if octets + ends + 1 < stream.count { return "\(octets) octets and \(ends) ends of \(stream.count)" }
    }
    return nil
  }

  /// However the bytes come, the journal's entries are the same, each one line of JSON, and bounded.
  static func journal(_ input: UnsafeRawBufferPointer) -> String? {
    var splits = Splits(input)
    let stream = splits.stream
    func read(_ next: () -> Int) -> (text: [UInt8], cursors: [String], isBroken: Bool) {
      let reader = JournalReader(limit: 64)
      let arena = ByteArena()
      var entries: [JournalReader.Entry] = []
      var at = 0
      while at < stream.count {
        let end = at + next()
        reader.feed(stream.part(at..<end), into: arena, entries: &entries)
        at = end
      }
      return (Array(arena.bytes), entries.map(\.cursor), reader.isBroken)
    }
    let whole = read { stream.count }
    var taken = 0
    let split = read {
      let count = splits.next(of: stream.count - taken)
      taken += count
      return count
    }
    if whole != split { return "it depends on how the bytes come" }
    for line in whole.text.split(separator: 0x0A) where String(validating: line, as: UTF8.self) != nil {
      if !Array(line).withUnsafeBytes({ JSONScanner.isValid($0) }) { return "no JSON: \(line)" }
    }
    return nil
  }

  /// The same frames however the octets come, each behind the other, none longer than the limit.
  static func frames(_ input: UnsafeRawBufferPointer) -> String? {
    var splits = Splits(input)
    let stream = splits.stream
    var (position, arrived) = (0, 0)
    var reader = FrameReader()
    while arrived < stream.count {
      arrived += splits.next(of: stream.count - arrived)
      let bytes = stream.part(0..<arrived)
      loop: while true {
        switch reader.next(bytes, from: position, limit: 100, final: arrived == stream.count) {
        case .frame(let text, let end, _):
          if text.lowerBound < position || text.upperBound > end || end > arrived + 1 || end <= position {
            return "a frame at \(text) ending at \(end), behind \(position)"
          }
          if text.count > 100 { return "a frame of \(text.count) octets" }
          position = min(end, arrived)
        case .more: break loop
        case .broken: return nil
        }
      }
    }
    return position == stream.count ? nil : "\(stream.count - position) octets are left"
  }

  /// A message is understood as a whole or not at all; what is written are JSON objects.
  static func forward(_ input: UnsafeRawBufferPointer) -> String? {
    let arena = ByteArena()
    switch ForwardMessage.read(input, from: 0, into: arena) {
    case .incomplete, .invalid: return arena.count == 0 ? nil : "written and not read"
    case .message(let events, _, let end):
      if end > input.count || end == 0 { return "a message of \(end) octets in \(input.count)" }
      var at = 0
      for event in events {
        if event.range.lowerBound != at { return "events that are not behind each other" }
        at = event.range.upperBound
        let text = arena.bytes.part(event.range)
        if UTF8Text.isValid(text), !JSONScanner.isValid(text) { return "no JSON: \(text.shown)" }
        if text.contains(0x0A) { return "more than one line" }
      }
      return at == arena.count ? nil : "\(arena.count) octets of events, \(at) told of"
    }
  }

  static func otlp(_ input: UnsafeRawBufferPointer) -> String? {
    for isJSON in [false, true] {
      let arena = ByteArena()
      let count = isJSON ? OTLPLogs.writeJSON(input, into: arena) : OTLPLogs.writeProtobuf(input, into: arena)
      if count ?? 0 != arena.bytes.count(where: { $0 == 0x0A }) { return "\(count ?? 0) records, other lines" }
      for line in arena.bytes.split(separator: 0x0A) where !JSONScanner.isValid(Bytes(rebasing: line)) {
        return "no JSON: \(Bytes(rebasing: line).shown)"
      }
    }
    return nil
  }

  /// A syslog message is one JSON object, or nothing was written.
  static func syslog(_ input: UnsafeRawBufferPointer) -> String? {
    let arena = ByteArena()
    let arrival: Int64 = 1_769_860_800_000_000_000
    let found = SyslogMessage.write(input, arrival: arrival, zone: .fixed(0), into: arena)
    if found == nil { return arena.count == 0 ? nil : "written and not read" }
    if arena.bytes.contains(0x0A) { return "more than one line" }
    if UTF8Text.isValid(input), !JSONScanner.isValid(arena.bytes) { return "no JSON: \(arena.bytes.shown)" }
    return nil
  }

  /// A format that takes a text says where its time ends.
  static func timestamp(_ input: UnsafeRawBufferPointer) -> String? {
    let formats =
      TimestampFormat.words + ["%d/%b/%Y:%H:%M:%S %z", "%a %b %e %I:%M:%S %p %Z %Y", "%y%j%T.%f", "%s", "%H:%M"]
    for name in formats {
      guard let format = TimestampFormat(name, zone: .fixed(3600)) else { return "\(name) is no format" }
      if let (_, length) = format.parse(input, arrival: 0), length > input.count { return "\(name) took \(length)" }
    }
    _ = TimestampFormat(input.part(0..<min(input.count, 64)).text, zone: .fixed(0))?.parse(input, arrival: 0)
    return nil
  }
}
