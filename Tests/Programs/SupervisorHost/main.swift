import Glibc
import Supervisor

// supervisor-host COMMAND…: a supervisor whose worker is COMMAND.
exit(SupervisorProgram.run(workerCommand: Array(CommandLine.arguments.dropFirst())))
