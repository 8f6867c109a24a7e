package import NIOCore

/// Room for one head at a time, shared by all connections of a loop.
package struct HTTP2Workspace: ~Copyable {
  var list: FieldList
  /// The head, or the trailer section, of the last event. Keep a copy to keep it: a buffer that is shared is not
  /// written over.
  package var head = ByteBuffer()
  package internal(set) var facts = MessageFacts()

  /// `limits` are those of one field list; the octets are what SETTINGS_MAX_HEADER_LIST_SIZE says.
  package init(limits: FieldListLimits = FieldListLimits()) { list = FieldList(limits: limits) }
}
