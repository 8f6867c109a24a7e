import Glibc
import LogShipper
import Logging
import Logs
import NIOPosix
import Synchronization
import Telemetry

// log-host STATE APPENDS: a log pipeline whose app pipe is descriptor 0. After its APPENDS-th append to the spool, before
// the bytes are taken out of the pipe, it kills itself; 0 = never: then it reads to the end.
let state = CommandLine.arguments[1]
let appends = Int(CommandLine.arguments[2]) ?? 0
let count = Atomic<Int>(0)
let pipeline = try LogPipeline(
  configuration: LogsConfiguration(), stateDirectory: state, metrics: MetricRegistry(), events: EventStream(),
  secrets: { _ in nil }, group: MultiThreadedEventLoopGroup.singleton, logger: Logger(label: "log-host"),
  spoolWrite: { descriptor, bytes, length, offset in
    let written = pwrite(descriptor, bytes, length, off_t(offset))
    // The segment's header is no append.
    if offset > 0, written == length, count.wrappingAdd(1, ordering: .relaxed).newValue == appends {
      kill(getpid(), SIGKILL)
    }
    return written
  })
try pipeline.start()
pipeline.attachApp(stdout: 0, stderr: -1)
let isWhole = await pipeline.awaitAppEnd(timeout: .seconds(30))
let left = await pipeline.stop(timeout: .seconds(30))
exit(isWhole && left == 0 ? 0 : 1)
