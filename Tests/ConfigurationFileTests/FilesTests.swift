import Logs
import Secrets
import Supervisor
import Testing
import Traffic
import Vocabulary

@testable import ConfigurationFile

@Suite struct FilesTests {
  @Test func includesMerge() throws {
    let workspace = Workspace()
    workspace.directory("outrider.d")
    workspace.directory("parts")
    workspace.write("outrider.yaml", "include: [parts/a.yaml]\napp: { command: [a], env: { A: \"1\" } }\n")
    workspace.write("parts/a.yaml", "include: b.yaml\napp: { env: { B: \"2\" }, working_directory: sub }\n")
    workspace.write("parts/b.yaml", "logs: { transforms: [{ remove: [x] }] }\n")
    workspace.write("outrider.d/20.yaml", "logs: { transforms: [{ remove: [y] }] }\n")
    workspace.write("outrider.d/10.yaml", "shutdown: { deadline: 5s }\n")
    workspace.write("outrider.d/README", "not: read\n")
    let loaded = try ConfigurationLoader.load(workspace.input())
    #expect(
      loaded.files.map { $0.dropFirst(workspace.path.count + 1) }
        == ["outrider.yaml", "parts/a.yaml", "parts/b.yaml", "outrider.d/10.yaml", "outrider.d/20.yaml"])
    #expect(loaded.value.app.environment.map(\.name) == ["A", "B"])
    #expect(loaded.value.app.workingDirectory == workspace.path + "/parts/sub")
    #expect(loaded.value.logs.transforms == [.remove(["x"]), .remove(["y"])])
    #expect(loaded.value.shutdown.deadline == .seconds(5))
  }

  private func rendered(_ files: [(String, String)]) -> String {
    let workspace = Workspace()
    for (name, text) in files { workspace.write(name, text) }
    do {
      _ = try ConfigurationLoader.load(workspace.input())
      return ""
    } catch { return error.rendered }
  }

  @Test func conflictsNameBothPlaces() {
    let text = rendered([
      ("outrider.yaml", "include: [b.yaml]\napp:\n  port: 1\n"), ("b.yaml", "app: { port: 2 }\n"),
    ])
    #expect(text.hasPrefix("b.yaml:1:14: error: `app.port` is already set at outrider.yaml:3:9"))
  }

  @Test func cyclesAndAbsentFilesEnd() {
    #expect(rendered([("outrider.yaml", "include: [outrider.yaml]\n")]).contains("is included twice"))
    #expect(
      rendered([("outrider.yaml", "include: [x.yaml]\n")]).hasPrefix("outrider.yaml:1:11: error: cannot read x.yaml"))
  }

  @Test func includesTakeVariables() throws {
    let workspace = Workspace()
    workspace.write("outrider.yaml", "include: [\"${PART}.yaml\"]\n")
    workspace.write("b.yaml", "threads: 3\n")
    #expect(try ConfigurationLoader.load(workspace.input(["PART": "b"])).value.traffic.threads == 3)
    #expect(rendered([("outrider.yaml", "include: [\"${PART}.yaml\"]\n")]).contains("`PART` is not set"))
  }

  @Test func errorsInIncludedFilesNameThem() {
    let text = rendered([("outrider.yaml", "include: [b.yaml]\n"), ("b.yaml", "\napp: { prot: 1 }\n")])
    #expect(text.hasPrefix("b.yaml:2:8: error: unknown key `prot`"))
    #expect(text.contains("| app: { prot: 1 }\n"))
  }

  @Test func environmentExpandsAnywhere() throws {
    let text = "app: { command: [\"${CMD}\", \"$${x}\"], port: \"${PORT}\", stop: { grace: \"${G:-7s}\" } }"
    let value = try Workspace.value(text, ["CMD": "run me", "PORT": "81"])
    #expect(value.app.command == ["run me", "${x}"])
    #expect(value.app.port == 81)
    #expect(value.app.stopGrace == .seconds(7))
    let rendered = Workspace.problems(text, ["PORT": "x1"])
    #expect(Workspace.problems("app: { port: ${PORT} }").contains("quote values that hold `${…}`"))
    #expect(rendered.contains("outrider.yaml:1:19: error: `app.command[0]`: the environment variable `CMD` is not set"))
    #expect(rendered.contains("`${PORT}` is not a whole number"))
    #expect(!rendered.contains("x1"))
  }
}

@Suite struct ImageTests {
  @Test func anImageLoadsAsTheSameConfigurationWithoutTheFiles() throws {
    let workspace = Workspace()
    workspace.directory("outrider.d")
    workspace.write("outrider.yaml", "include: [more.yaml]\napp: { port: 80 }")
    workspace.write("more.yaml", "outbound: { a: { listen: \":1\", to: \"http://x\" } }")
    workspace.write("outrider.d/x.yaml", "outbound: { b: { listen: \":2\", to: \"http://y\" } }")
    let loaded = try ConfigurationLoader.load(workspace.input())
    #expect(loaded.value.traffic.outbound.map(\.name) == ["a", "b"])
    let image = try #require(ConfigurationImage(loaded.image.bytes))
    #expect(image == loaded.image && image.files.count == 3)
    workspace.write("outrider.yaml", "nonsense: [")
    workspace.write("outrider.d/x.yaml", "outbound: { c: { listen: \":3\", to: \"http://z\" } }")
    let again = try ConfigurationLoader.load(workspace.input(), from: image)
    #expect(again.value == loaded.value && again.files == loaded.files)
    for length in 1..<loaded.image.bytes.count where length % 7 == 0 {
      _ = ConfigurationImage(Array(loaded.image.bytes.prefix(length)))
    }
    #expect(ConfigurationImage([1, 2, 3]) == nil)
  }

  @Test func noFileIsAnImageToo() throws {
    let workspace = Workspace()
    let loaded = try ConfigurationLoader.load(workspace.input())
    workspace.write("outrider.yaml", "threads: 3")
    #expect(try ConfigurationLoader.load(workspace.input(), from: loaded.image).value.traffic.threads == nil)
  }
}
