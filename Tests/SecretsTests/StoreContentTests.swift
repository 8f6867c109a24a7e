import Testing
import Vocabulary

@testable import Secrets

struct StoreContentTests {
  private func value(_ text: String, _ name: String, _ field: String = "value") throws -> String? {
    try StoreContent(parsing: Array(text.utf8)).fields(name)?.first { $0.field == field }?.value
  }

  private func line(_ text: String) -> Int? {
    do throws(StoreContentError) {
      _ = try StoreContent(parsing: Array(text.utf8))
      return nil
    } catch {
      return error.line
    }
  }

  @Test func yamlHasOneOrTwoLevels() throws {
    let text = """
      # the shop
      ---
      db:
        username: app   # who
        password: "a\\tb\\u00e9#"
        note: 'it''s'
      token: yes
      cert:
        pem: |
          line 1
            line 2

          line 3
        tight: |-
          x
      """
    #expect(try value(text, "db", "username") == "app")
    #expect(try value(text, "db", "password") == "a\tbé#")
    #expect(try value(text, "db", "note") == "it's")
    #expect(try value(text, "token") == "yes")
    #expect(try value(text, "cert", "pem") == "line 1\n  line 2\n\nline 3\n")
    #expect(try value(text, "cert", "tight") == "x")
  }

  @Test func whatTheSubsetLeavesOutIsAnErrorWithItsLine() {
    #expect(line("a: b\nc: [1, 2]") == 2)
    #expect(line("a:\n  - b") == 2)
    #expect(line("a: &x b") == 1)
    #expect(line("a: b\n\tc: d") == 2)
    #expect(line("a: b\na: c") == 2)
    #expect(line("a:\n  b: 1\n   c: 2") == 3)
    #expect(line("a:\nb: 1") == 1)
    #expect(line("a: \"x") == 1)
    #expect(line("a: b: c") == 1)
    #expect(line("a:\n  b:\n    c: d") == 2)
    #expect(line("just text") == 1)
  }

  @Test func jsonAndDotenvAreRead() throws {
    let json = #"{"db": {"password": "s", "port": 5432, "on": true}, "token": "t"}"#
    #expect(try value(json, "db", "port") == "5432")
    #expect(try value(json, "token") == "t")
    #expect(line("{\n\"a\": [}") == 2)
    #expect(line(#"{"a": [1]}"#) == 1)
    let dotenv = "# c\nexport A=1\nB=\"x y\\n\"\nC='$B' # no\nD=\n"
    #expect(try value(dotenv, "A") == "1")
    #expect(try value(dotenv, "B") == "x y\n")
    #expect(try value(dotenv, "C") == "$B")
    #expect(try value(dotenv, "D") == "")
    #expect(line("A=1\nnonsense") == 2)
    #expect(line("A=1\nA=2") == 2)
  }

  @Test func errorsNeverShowAValue() {
    let error = #expect(throws: StoreContentError.self) {
      try StoreContent(parsing: Array("db:\n  password: hunter2: x".utf8))
    }
    #expect(error.map { !"\($0)".contains("hunter2") } == true)
  }

  @Test func whatIsWrittenReadsBack() throws {
    for format in [StoreContent.Format.yaml, .json, .dotenv] {
      var content = StoreContent(format: format)
      content.set("db", "value", "q\"uo\\te\n#: é")
      let again = try StoreContent(parsing: content.serialized)
      #expect(again == content)
      content.set("db/x", "user name", "")
      content.set("db", "value", "new")
      let third = try StoreContent(parsing: content.serialized)
      #expect(third.fields("db")?.first?.value == "new")
      #expect(third.fields("db/x")?.first?.field == "user name")
    }
    #expect(try StoreContent(parsing: StoreContent().serialized).names.isEmpty)
  }
}

struct JSONSuiteTests {
  @Test func everyCaseHasItsResult() throws {
    let folder = Vectors.folder + "/json"
    let names = Vectors.list(folder)
    guard !names.isEmpty else {
      print("skipped: no JSON cases at \(folder)")
      return
    }
    for name in names {
      let bytes = Vectors.read("\(folder)/\(name)")
      let parsed = (try? JSONParser.parse(bytes)) != nil
      // Keys that are there twice are an error here although the grammar allows them.
      if name.hasPrefix("y_object_duplicated_key") { continue }
      if name.hasPrefix("y_") { #expect(parsed, "\(name)") }
      if name.hasPrefix("n_") { #expect(!parsed, "\(name)") }
    }
  }
}
