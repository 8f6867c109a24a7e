import Testing

@testable import Supervisor

/// Who gets the terminal unasked; with real terminals: `test_terminal.py`.
@Suite struct TerminalTests {
  @Test(arguments: [["bash"], ["/usr/bin/zsh", "-l"], ["python3"], ["node", "--inspect"]])
  func aShellWithoutAScriptIsInteractive(command: [String]) { #expect(Terminal.isInteractive(command)) }

  @Test(arguments: [["bash", "-c", "true"], ["sh", "run.sh"], ["python3", "-u", "app.py"], ["./bash.d/app"], []])
  func whatRunsSomethingIsNot(command: [String]) { #expect(!Terminal.isInteractive(command)) }
}
