import Vocabulary

enum TemplateTargets {
  /// Whatever the text: it is refused at a place inside it, or it renders to the same twice, or fails at a place inside it.
  static func blocks(_ input: UnsafeRawBufferPointer) -> String? {
    let text = String(decoding: input, as: UTF8.self)
    let lines = 1 + text.utf8.count { $0 == 0x0A }
    do throws(BlockTemplate.Problem) {
      let template = try BlockTemplate(parsing: text) { $0.count > 3 ? .value("{{") : .unset }
      var texts: [[UInt8]] = []
      for _ in 0..<2 { texts.append(try template.render(surroundings)) }
      return texts[0] == texts[1] ? nil : "two renderings differ"
    } catch {
      guard (1...lines).contains(error.place.line), error.place.column >= 1 else { return "a place outside the text" }
      return error.message.isEmpty || error.wayOut.isEmpty ? "an error that says nothing" : nil
    }
  }

  private static var surroundings: BlockTemplate.Surroundings {
    let fields: [TemplateValue.Entry] = [.init("a", .text("YQ==")), .init("list", .list([.number(1), .text("x")]))]
    return .init(
      source: { source in
        source.path.count % 7 == 6
          ? .failure(.init("not there")) : .success(.map([.init("Data", .map([.init("data", .map(fields))] + fields))]))
      }, text: { .success(Array($0.description.utf8)) }, environment: { $0.isEmpty ? nil : $0 })
  }
}
