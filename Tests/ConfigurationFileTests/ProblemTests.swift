import Testing

@testable import ConfigurationFile

@Suite struct ProblemTests {
  @Test func unknownKeyHasCaretAndSuggestion() {
    #expect(
      Workspace.problems("app:\n  comand: [a]\n") == """
        outrider.yaml:2:3: error: unknown key `comand` in `app`
          |   comand: [a]
          |   ^
          help: did you mean `command`? known keys: command, working_directory, user, group, env, port, address, ready, \
        restart, stop, proxy_env
        """)
  }

  @Test func wrongUnit() {
    #expect(
      Workspace.problems("app: { command: [a], stop: { grace: 30 } }\n") == """
        outrider.yaml:1:37: error: `app.stop.grace`: `30` is not a duration
          | app: { command: [a], stop: { grace: 30 } }
          |                                     ^
          help: did you mean `30s`? write a whole number and one of ms, s, m, h, for example `250ms`
        """)
    #expect(Workspace.problems("logs: { spool: { limit: 1GB } }").contains("did you mean `1GiB`?"))
  }

  @Test func everyErrorAtOnceInOrder() throws {
    let workspace = Workspace()
    workspace.write(
      "outrider.yaml",
      """
      outbound:
        a: { listen: 9001, to: "http://x", tmeout: 5s }
        b: { listen: ":1", to: nowhere }
      app: { port: 99999 }
      inbuond: {}
      """)
    do {
      _ = try ConfigurationLoader.load(workspace.input())
      Issue.record("accepted")
    } catch {
      #expect(error.count == 5)
      let heads = error.rendered.split(separator: "\n").filter { $0.hasPrefix("outrider.yaml") }
      #expect(
        heads == [
          "outrider.yaml:2:16: error: `outbound.a.listen`: `9001` is not an address",
          "outrider.yaml:2:38: error: unknown key `tmeout` in `outbound.a`",
          "outrider.yaml:3:26: error: `outbound.b.to`: there is no cluster `nowhere`",
          "outrider.yaml:4:14: error: `app.port`: `99999` is not a whole number",
          "outrider.yaml:5:1: error: unknown key `inbuond`",
        ])
      #expect(error.rendered.contains("did you mean `inbound`?"))
      #expect(error.rendered.contains("did you mean `:9001`?"))
      #expect(ConfigurationProblems.exitCode == 78)
    }
  }

  @Test func keysOfTheContractThatAreNotInThisVersion() {
    for text in [
      "telemetry: { metrics: { prometheus: false } }"
    ] {
      let rendered = Workspace.problems(text)
      #expect(rendered.contains("part of the contract but not in this version"), "\(text): \(rendered)")
      #expect(rendered.split(separator: "\n").count { $0.contains(": error: ") } == 1, "\(text): \(rendered)")
    }
  }

  @Test func invalidYAML() {
    #expect(Workspace.problems("app:\n  command: [a\n  port: 1\n").hasPrefix("outrider.yaml:3:"))
    #expect(Workspace.problems("app: {}\n\tport: 1\n").contains("indent with spaces"))
    #expect(
      Workspace.problems("app: {}\napp: {}\n").contains(
        "outrider.yaml:2:1: error: `app` is written twice; first at outrider.yaml:1:1"))
    #expect(Workspace.problems("app: &a {}\nlogs: *a\n").contains("aliases (`*name`) are not supported"))
    #expect(Workspace.problems("app: !!binary aGk=\n").contains("the tag `tag:yaml.org,2002:binary` is not supported"))
    #expect(Workspace.problems("app: {}\n---\napp: {}\n").contains("outrider.yaml:2:1: error: a second document"))
    #expect(Workspace.problems("- a\n").contains("the file holds a list, not a map"))
    let deep = String(repeating: "[", count: 100) + String(repeating: "]", count: 100)
    #expect(Workspace.problems("app: \(deep)").contains("nested more than 64 levels"))
  }

  @Test func invalidUTF8AndLargeFiles() {
    let workspace = Workspace()
    workspace.write("outrider.yaml", Array("app: {}\n# ".utf8) + [0xFF, 0x0A])
    #expect(throws: ConfigurationProblems.self) { try ConfigurationLoader.load(workspace.input()) }
    workspace.write("large.yaml", [UInt8](repeating: 0x0A, count: (4 << 20) + 1))
    var input = workspace.input()
    input.path = "large.yaml"
    #expect { try ConfigurationLoader.load(input) } throws: {
      ($0 as? ConfigurationProblems)?.rendered.contains("it is larger than 4 MiB") == true
    }
    input.path = "absent.yaml"
    #expect { try ConfigurationLoader.load(input) } throws: {
      ($0 as? ConfigurationProblems)?.rendered.contains("cannot read absent.yaml: No such file") == true
    }
  }

  @Test func commandAsTextShowsTheList() {
    #expect(
      Workspace.problems("app: { command: python3 app.py --x }").contains(
        "help: write it as a list: `command: [python3, app.py, \"--x\"]`"))
  }

  @Test func secretsAreNotQuoted() {
    let rendered = Workspace.problems(
      "secrets: { stores: { v: { vault: { address: \"http://v\", auth: { token: hunter2, tokn: x } } } } }")
    #expect(rendered.contains("unknown key `tokn`"))
    #expect(!rendered.contains("hunter2"))
  }

  @Test func caretOfALongLineStaysInView() {
    let line = "app: { env: { " + (0..<100).map { "A\($0): b" }.joined(separator: ", ") + " }, prot: 1 }"
    let lines = Workspace.problems(line).split(separator: "\n")
    #expect(lines.count == 4)
    #expect(lines[1].count < 160)
    let caret = lines[2].count - 1
    #expect(lines[1].dropFirst(caret).hasPrefix("prot"))
  }

  @Test func manyErrorsAreCounted() {
    let text = (0..<1500).map { "k\($0)x: 1\n" }.joined()
    let rendered = Workspace.problems(text)
    #expect(rendered.hasSuffix("… and 1400 more errors"))
    #expect(Workspace.problems("app: { command: [\"\"] }").contains("begins with an empty text"))
    #expect(Workspace.problems("app: { command: [\"a\\0\"] }").contains("NUL"))
  }

  @Test func suggestions() {
    #expect(Suggestion.distance(Array("tmieout"), Array("timeout")) == 1)
    #expect(Suggestion.distance([], Array("ab")) == 2)
    #expect(Suggestion.nearest(to: "lisen", among: ["listen", "to"]) == "listen")
    #expect(Suggestion.nearest(to: "banana", among: ["listen", "to"]) == nil)
  }
}
