#ifndef OUTRIDER_CLINUX_H
#define OUTRIDER_CLINUX_H
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/prctl.h>
#include <sys/inotify.h>
#include "process_shim.h"
#include "linux_shim.h"
#include "logs_shim.h"
#include "octets_shim.h"
#include "secrets_shim.h"
#endif
