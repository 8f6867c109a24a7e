import ArgumentParser
import Glibc

// A closed pipe is an error of the write that met it, never the end of the process.
signal(SIGPIPE, SIG_IGN)
OutriderCommand.main()
