import CPCRE2

/// A Perl-compatible expression (PCRE2 with JIT), over UTF-8; octets that are no UTF-8 match nothing. Two are equal
/// when they are written the same.
package final class RegularExpression: Sendable, Equatable {
  package struct Invalid: Error, CustomStringConvertible {
    package var pattern: String
    package var reason: String
    /// In bytes from the pattern's start.
    package var offset: Int
    package var description: String {
      "the expression '\(pattern)' is invalid at offset \(offset): \(reason); see `man pcre2pattern`"
    }
  }

  /// What the subject must be to the expression.
  package enum Extent: Sendable {
    /// It matches somewhere in the subject.
    case somewhere
    /// It matches the subject from its first octet to its last.
    case whole
  }

  package enum Outcome: Sendable {
    case matched, missed
    /// The workspace's limits ended the search: nobody knows.
    case exceeded
  }

  package let pattern: String
  package let extent: Extent
  /// Capture groups, the whole match not counted.
  package let groups: Int
  // Safe to share: PCRE2 never writes to compiled code, JIT code included (pcre2api, "Multithreading"), and it is freed
  // when nobody can use it any more.
  nonisolated(unsafe) private let code: OpaquePointer

  package init(_ pattern: String, _ extent: Extent = .somewhere) throws(Invalid) {
    var number: Int32 = 0
    var offset = 0
    var options = UInt32(PCRE2_UTF) | UInt32(PCRE2_MATCH_INVALID_UTF) | UInt32(PCRE2_NEVER_BACKSLASH_C)
    if case .whole = extent { options |= UInt32(PCRE2_ANCHORED) | UInt32(PCRE2_ENDANCHORED) }
    let compiled = Array(pattern.utf8).withUnsafeBufferPointer {
      pcre2_compile_8($0.baseAddress, $0.count, options, &number, &offset, nil)
    }
    guard let compiled else {
      var text = [UInt8](repeating: 0, count: 256)
      let length = pcre2_get_error_message_8(number, &text, 256)
      throw Invalid(
        pattern: pattern, reason: String(decoding: text.prefix(max(0, Int(length))), as: UTF8.self), offset: offset)
    }
    _ = pcre2_jit_compile_8(compiled, UInt32(PCRE2_JIT_COMPLETE))
    var count: UInt32 = 0
    _ = pcre2_pattern_info_8(compiled, UInt32(PCRE2_INFO_CAPTURECOUNT), &count)
    self.pattern = pattern
    self.extent = extent
    groups = Int(count)
    code = compiled
  }

  deinit { pcre2_code_free_8(code) }

  /// The groups that have names, by index.
  package var names: [(name: String, index: Int)] {
    var count: UInt32 = 0
    var size: UInt32 = 0
    var table: UnsafePointer<UInt8>?
    _ = pcre2_pattern_info_8(code, UInt32(PCRE2_INFO_NAMECOUNT), &count)
    _ = pcre2_pattern_info_8(code, UInt32(PCRE2_INFO_NAMEENTRYSIZE), &size)
    _ = pcre2_pattern_info_8(code, UInt32(PCRE2_INFO_NAMETABLE), &table)
    guard let table else { return [] }
    // Each entry: the index in two octets, high first, and the name with a NUL.
    let all = (0..<Int(count)).map { entry -> (name: String, index: Int) in
      let at = table + entry * Int(size)
      return (String(cString: at + 2), Int(at[0]) << 8 | Int(at[1]))
    }
    return all.sorted { $0.index < $1.index }
  }

  package static func == (left: RegularExpression, right: RegularExpression) -> Bool {
    left === right || left.pattern == right.pattern && left.extent == right.extent
  }

  /// Looks for a match that begins at `start` or later. Where it and its groups are, the workspace tells.
  package func match(
    _ bytes: UnsafeRawBufferPointer, from start: Int = 0, _ workspace: MatchWorkspace
  ) -> Outcome {
    guard bytes.count <= workspace.longest else { return .exceeded }
    var nothing: UInt8 = 0
    let result = withUnsafePointer(to: &nothing) { nothing in
      // No octets may have no address.
      let base = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) ?? nothing
      return pcre2_match_8(code, base, bytes.count, start, 0, workspace.data, workspace.context)
    }
    if result >= 0 { return .matched }
    return result == PCRE2_ERROR_NOMATCH ? .missed : .exceeded
  }
}

/// What one thread matches with: the limits, and where the last match was.
package final class MatchWorkspace {
  /// The match and its groups.
  private let pairs: Int
  fileprivate let data: OpaquePointer
  fileprivate let context: OpaquePointer
  fileprivate let longest: Int

  /// `steps` bounds the backtracking of one match, `longest` the octets of a subject; groups above `groups` are not kept.
  package init(steps: Int, longest: Int = .max, groups: Int = 9) {
    pairs = groups + 1
    guard let data = pcre2_match_data_create_8(UInt32(groups + 1), nil), let context = pcre2_match_context_create_8(nil)
    else {
      preconditionFailure("out of memory")
    }
    pcre2_set_match_limit_8(context, UInt32(clamping: steps))
    // KiB, where there is no JIT.
    pcre2_set_heap_limit_8(context, 1024)
    self.data = data
    self.context = context
    self.longest = longest
  }

  deinit {
    pcre2_match_context_free_8(context)
    pcre2_match_data_free_8(data)
  }

  /// Where that group of the last match is, 0 for the match itself; nil when it took no part in it.
  package func group(_ index: Int) -> Range<Int>? {
    guard index < min(Int(pcre2_get_ovector_count_8(data)), pairs),
      let offsets = pcre2_get_ovector_pointer_8(data)
    else { return nil }
    let (start, end) = (offsets[2 * index], offsets[2 * index + 1])
    // `\K` may set the start behind the end.
    return start == Int(bitPattern: UInt.max) || start > end ? nil : start..<end
  }
}
