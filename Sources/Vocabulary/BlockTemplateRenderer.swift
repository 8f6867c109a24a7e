extension BlockTemplate {
  /// What the renderer asks of the world.
  package struct Surroundings {
    /// The value of a `secret` or `pkiCert` call; throws the reason when it is not there.
    package var source: (Source) -> Result<TemplateValue, Reason>
    /// The text of `${secrets.…}` pieces.
    package var text: (SecretTemplate) -> Result<[UInt8], Reason>
    /// An environment variable.
    package var environment: (String) -> String?

    package init(
      source: @escaping (Source) -> Result<TemplateValue, Reason>,
      text: @escaping (SecretTemplate) -> Result<[UInt8], Reason>, environment: @escaping (String) -> String?
    ) {
      self.source = source
      self.text = text
      self.environment = environment
    }
  }

  /// Why something is not there; never a value.
  package struct Reason: Error, Sendable, Equatable {
    package var text: String
    package init(_ text: String) { self.text = text }
  }

  /// The longest text, in octets.
  package static let limit = 16 << 20

  /// The text, which is the caller's to erase, and so is what the surroundings gave; what was computed is erased. The error names places and fields, never
  /// values.
  package func render(_ surroundings: Surroundings) throws(Problem) -> [UInt8] {
    var renderer = BlockTemplateRenderer(surroundings)
    defer { for value in renderer.made { value.erase() } }
    do throws(Problem) {
      try renderer.run(nodes, dot: .map([]))
      return renderer.output.bytes
    } catch {
      renderer.output.bytes.erase()
      throw error
    }
  }
}

/// Walks the nodes of a template.
struct BlockTemplateRenderer {
  typealias Problem = BlockTemplate.Problem

  private let surroundings: BlockTemplate.Surroundings
  private(set) var output = ErasingText()
  /// What functions made.
  private(set) var made: [TemplateValue] = []
  private var variables: [(name: String, value: TemplateValue)] = [("", .map([]))]
  /// Nodes that may still run: a template of ranges in ranges ends.
  private var budget = 1_000_000

  init(_ surroundings: BlockTemplate.Surroundings) { self.surroundings = surroundings }

  mutating func run(_ nodes: [BlockTemplate.Node], dot: TemplateValue) throws(Problem) {
    for node in nodes {
      budget -= 1
      guard budget > 0, output.bytes.count <= BlockTemplate.limit else {
        throw Problem(
          place: .init(line: 1, column: 1), message: "the text becomes larger than 16 MiB", wayOut: "split the file")
      }
      switch node {
      case .text(let template):
        switch surroundings.text(template) {
        case .success(let bytes): output.append(bytes)
        case .failure(let reason):
          throw Problem(place: .init(line: 1, column: 1), message: reason.text, wayOut: "correct the reference")
        }
      case .output(let pipeline):
        let value = try value(pipeline, dot)
        let text = try text(of: value, at: pipeline)
        output.append(text)
      case .assign(let name, let pipeline, let isNew):
        var value = try value(pipeline, dot)
        value = try present(value, at: pipeline)
        if !isNew, let place = variables.lastIndex(where: { $0.name == name }) {
          variables[place].value = value
        } else {
          variables.append((name, value))
        }
      case .branch(let branch): try run(branch, dot)
      case .range(let range): try run(range, dot)
      }
    }
  }

  private mutating func run(_ branch: BlockTemplate.Branch, _ dot: TemplateValue) throws(Problem) {
    let value = try value(branch.condition, dot)
    let outer = variables.count
    defer { variables.removeLast(variables.count - outer) }
    if let name = branch.variable { variables.append((name, value)) }
    if value.isTrue {
      try run(branch.then, dot: branch.isWith ? value : dot)
    } else {
      try run(branch.otherwise, dot: dot)
    }
  }

  private mutating func run(_ range: BlockTemplate.Range, _ dot: TemplateValue) throws(Problem) {
    var list = try value(range.list, dot)
    list = try present(list, at: range.list)
    let items: [(TemplateValue, TemplateValue)]
    switch list {
    case .list(let values): items = values.enumerated().map { (.number($0.offset), $0.element) }
    case .map(let entries): items = entries.map { (.text($0.key), $0.value) }
    default: throw failure(range.list, "`range` needs a list or a map", "range over `.Data.data` or over `split`")
    }
    if items.isEmpty { return try run(range.otherwise, dot: dot) }
    for (key, item) in items {
      let outer = variables.count
      if let name = range.key { variables.append((name, key)) }
      if let name = range.value { variables.append((name, item)) }
      try run(range.body, dot: item)
      variables.removeLast(variables.count - outer)
    }
  }

  // MARK: - Values

  private func failure(_ pipeline: BlockTemplate.Pipeline, _ message: String, _ wayOut: String) -> Problem {
    Problem(
      place: pipeline.commands.first?.place ?? .init(line: 1, column: 1), message: message, wayOut: wayOut)
  }

  private func present(
    _ value: TemplateValue, at pipeline: BlockTemplate.Pipeline
  ) throws(Problem) -> TemplateValue {
    if case .missing(let reason) = value { throw failure(pipeline, reason, "correct the name, or test it with `if`") }
    return value
  }

  private func text(of value: TemplateValue, at pipeline: BlockTemplate.Pipeline) throws(Problem) -> [UInt8] {
    switch try present(value, at: pipeline) {
    case .string(let bytes): return bytes
    case .number(let number): return Array(String(number).utf8)
    case .bool(let flag): return Array((flag ? "true" : "false").utf8)
    case .list, .map, .missing:
      throw failure(pipeline, "a list or a map has no text", "use `toJSON`, `join` or `range`")
    }
  }

  private mutating func value(
    _ pipeline: BlockTemplate.Pipeline, _ dot: TemplateValue
  ) throws(Problem) -> TemplateValue {
    var piped: TemplateValue?
    for command in pipeline.commands { piped = try value(command, dot, piped) }
    return piped ?? .missing("nothing")
  }

  private mutating func value(
    _ command: BlockTemplate.Command, _ dot: TemplateValue, _ piped: TemplateValue?
  ) throws(Problem) -> TemplateValue {
    guard case .function(let name) = command.words[0].base, let function = TemplateFunction(rawValue: name) else {
      return try value(command.words[0], dot)
    }
    if function == .secret || function == .pkiCert { return try fetched(command, isCertificate: function == .pkiCert) }
    var arguments: [TemplateValue] = []
    for word in command.words.dropFirst() { arguments.append(try value(word, dot)) }
    if let piped { arguments.append(piped) }
    if !function.takesMissing {
      for case .missing(let reason) in arguments {
        throw Problem(place: command.place, message: reason, wayOut: "correct the name, or test it with `if`")
      }
    }
    do throws(BlockTemplate.Reason) {
      let value = try function.apply(arguments, environment: surroundings.environment)
      if function.makesText { made.append(value) }
      return value
    } catch {
      throw Problem(place: command.place, message: "`\(name)`: \(error.text)", wayOut: "see docs/secrets.md")
    }
  }

  private func fetched(_ command: BlockTemplate.Command, isCertificate: Bool) throws(Problem) -> TemplateValue {
    var literals: [String] = []
    for word in command.words.dropFirst() { if case .string(let text) = word.base { literals.append(text) } }
    let source = BlockTemplate.Source(
      path: BlockTemplate.plainPath(literals.first ?? ""), arguments: Array(literals.dropFirst()),
      isCertificate: isCertificate, place: command.place)
    switch surroundings.source(source) {
    case .success(let value): return value
    case .failure(let reason):
      throw Problem(place: command.place, message: reason.text, wayOut: "see `outrider status`")
    }
  }

  private mutating func value(_ operand: BlockTemplate.Operand, _ dot: TemplateValue) throws(Problem) -> TemplateValue {
    var value: TemplateValue
    switch operand.base {
    case .dot: value = dot
    case .variable(let name):
      value = variables.last { $0.name == name }?.value ?? .missing("the variable `$\(name)` has no value")
    case .string(let text): value = .text(text)
    case .number(let number): value = .number(number)
    case .bool(let flag): value = .bool(flag)
    case .pipeline(let pipeline): value = try self.value(pipeline, dot)
    case .function(let name): value = .missing("`\(name)` is no value")
    }
    for field in operand.fields {
      if case .missing = value { return value }
      guard case .map(let entries) = value else {
        throw Problem(
          place: operand.place, message: "`.\(field)` is asked of a value that has no fields",
          wayOut: "see what `with` or `range` set the dot to")
      }
      if let found = value[field] {
        value = found
      } else {
        let known = entries.isEmpty ? "none" : entries.map { "`\($0.key)`" }.joined(separator: ", ")
        value = .missing("there is no field `\(field)`; there are \(known)")
      }
    }
    return value
  }
}
