import ArgumentParser

enum Shell: String, ExpressibleByArgument, CaseIterable {
  case bash, zsh, fish

  var completion: CompletionShell {
    switch self {
    case .bash: .bash
    case .zsh: .zsh
    case .fish: .fish
    }
  }
}

struct CompletionsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "completions", abstract: "Print the completion script of a shell.",
    discussion: """
      bash: outrider completions bash > /etc/bash_completion.d/outrider
      zsh: outrider completions zsh > "${fpath[1]}/_outrider"
      fish: outrider completions fish > ~/.config/fish/completions/outrider.fish
      """)
  @Argument(help: "bash, zsh or fish.")
  var shell: Shell

  func run() { print(OutriderCommand.completionScript(for: shell.completion)) }
}
