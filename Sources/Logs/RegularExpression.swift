import CPCRE2

/// A Perl-compatible expression (PCRE2, JIT, bounded matching), over UTF-8. Owned by one thread.
package final class RegularExpression {
  package struct Invalid: Error, CustomStringConvertible {
    package var pattern: String
    package var reason: String
    /// In bytes from the pattern's start.
    package var offset: Int
    package var description: String {
      "the expression '\(pattern)' is invalid at offset \(offset): \(reason); see `man pcre2pattern`"
    }
  }

  private let code: OpaquePointer
  private let match: OpaquePointer
  private let context: OpaquePointer

  package init(_ pattern: String) throws(Invalid) {
    var number: Int32 = 0
    var offset = 0
    let options = UInt32(PCRE2_UTF) | UInt32(PCRE2_MATCH_INVALID_UTF)
    let compiled = Array(pattern.utf8).withUnsafeBufferPointer {
      pcre2_compile_8($0.baseAddress, $0.count, options, &number, &offset, nil)
    }
    guard let compiled, let match = pcre2_match_data_create_8(1, nil), let context = pcre2_match_context_create_8(nil)
    else {
      var text = [UInt8](repeating: 0, count: 256)
      let length = pcre2_get_error_message_8(number, &text, 256)
      throw Invalid(
        pattern: pattern, reason: String(decoding: text.prefix(max(0, Int(length))), as: UTF8.self), offset: offset)
    }
    _ = pcre2_jit_compile_8(compiled, UInt32(PCRE2_JIT_COMPLETE))
    pcre2_set_match_limit_8(context, 1_000_000)
    code = compiled
    self.match = match
    self.context = context
  }

  deinit {
    pcre2_match_context_free_8(context)
    pcre2_match_data_free_8(match)
    pcre2_code_free_8(code)
  }

  /// True when the expression matches somewhere; a match that exceeds its limits counts as none.
  package func matches(_ bytes: Bytes) -> Bool {
    guard let base = bytes.baseAddress else { return false }
    return pcre2_match_8(code, base.assumingMemoryBound(to: UInt8.self), bytes.count, 0, 0, match, context) > 0
  }
}
