import ArgumentParser

/// Every command, in one list.
struct OutriderCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "outrider",
    abstract: "One sidecar for any app: its traffic, its logs, its secrets and its life.",
    version: ProductVersion.text,
    subcommands: [
      InitCommand.self, RunCommand.self, WaitCommand.self, ValidateCommand.self, ExplainCommand.self,
      SchemaCommand.self,
      StatusCommand.self, DoctorCommand.self, TopCommand.self,
      LogsCommand.self, TapCommand.self, SecretsCommand.self, InterceptCommand.self, ReloadCommand.self,
      UpgradeCommand.self, DrainCommand.self, BypassCommand.self, QuitCommand.self, CompletionsCommand.self,
      InjectCommand.self,
      InjectorCommand.self,
      VersionCommand.self, WorkerCommand.self,
    ])
}

/// The product's version, as `outrider version`, the handover and the admin API say it.
enum ProductVersion {
  static let text = "0.1.0"
}

struct VersionCommand: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "version", abstract: "Print the version.")

  func run() { print("outrider \(ProductVersion.text)") }
}
