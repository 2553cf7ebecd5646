package metrics

import (
	"maps"
	"slices"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// families are all there are, in the order in which they are written.
var families = []family{
	{
		"supervisord_build_info", gauge,
		[]string{"version"},
		"1, with the version of supervisord.",
		func(s *Snapshot, put put) { put(1, s.Info.Version) },
	},
	{
		"supervisord_degraded", gauge, nil,
		"How many things do not work of supervisord itself: superctl status says which.",
		func(s *Snapshot, put put) { put(float64(len(s.Status.Degraded))) },
	},

	{
		"supervisord_unit_state", gauge,
		[]string{"unit", "state"},
		"1 for the state that a service is in, 0 for the others.",
		units(func(u ipc.UnitStatus, put put) {
			for _, state := range states {
				put(bit(u.ActiveState == string(state)), u.Name, string(state))
			}
		}),
	},
	{
		"supervisord_unit_instances", gauge,
		[]string{"unit"},
		"How many instances of a service there are to be.",
		units(func(u ipc.UnitStatus, put put) { put(float64(u.Want), u.Name) }),
	},
	{
		"supervisord_unit_instances_ready", gauge,
		[]string{"unit"},
		"How many of them can serve.",
		units(func(u ipc.UnitStatus, put put) { put(float64(u.Ready), u.Name) }),
	},
	{
		"supervisord_unit_processes", gauge,
		[]string{"unit", "role"},
		"Processes of a service: main serve, next come up beside them in a reload, old are on their way out.",
		units(func(u ipc.UnitStatus, put put) {
			for _, role := range roles {
				put(float64(processes(u, role)), u.Name, string(role))
			}
		}),
	},
	{
		"supervisord_unit_share_ratio", gauge,
		[]string{"unit", "role"},
		"The part of new connections that the processes of a role get, from 0 to 1, where the sockets are steered.",
		units(func(u ipc.UnitStatus, put put) {
			if !slices.ContainsFunc(u.Processes, func(p ipc.Process) bool { return p.Share > 0 }) {
				return
			}
			for _, role := range roles {
				put(share(u, role), u.Name, string(role))
			}
		}),
	},
	{
		"supervisord_unit_generation", gauge,
		[]string{"unit"},
		"The generation that a service runs, or would go back to; 0 before the first.",
		units(func(u ipc.UnitStatus, put put) { put(float64(u.Generation), u.Name) }),
	},
	{
		"supervisord_unit_ready_timestamp_seconds", gauge,
		[]string{"unit"},
		"Since when the main process is ready, in seconds since 1970; of the first instance that has one.",
		units(func(u ipc.UnitStatus, put put) {
			if u.Since != nil {
				put(float64(u.Since.UnixMilli())/1000, u.Name)
			}
		}),
	},
	{
		"supervisord_unit_resident_memory_bytes", gauge,
		[]string{"unit"},
		"Memory of a service's main processes, not of their children.",
		units(func(u ipc.UnitStatus, put put) { put(float64(u.Memory), u.Name) }),
	},
	{
		"supervisord_unit_file_differs", gauge,
		[]string{"unit"},
		"1 if the program on disk is not the one that runs: the next reload would run it.",
		units(func(u ipc.UnitStatus, put put) { put(bit(u.FileDiffers), u.Name) }),
	},
	{
		"supervisord_unit_restarts_total", counter,
		[]string{"unit"},
		"Automatic restarts.",
		counted(func(c *Counters, put put) { put(float64(c.restarts)) }),
	},
	{
		"supervisord_unit_exits_total", counter,
		[]string{"unit", "result"},
		"Processes that ended, by what systemd calls the result: success, exit-code, signal, core-dump, unknown.",
		counted(func(c *Counters, put put) {
			for _, result := range slices.Sorted(maps.Keys(c.exits)) {
				put(float64(c.exits[result]), string(result))
			}
		}),
	},

	{
		"supervisord_jobs_total", counter,
		[]string{"unit", "verb", "result"},
		"Jobs that ended, by verb (start, stop, restart, reload, scale) and result (done, failed, canceled, refused).",
		counted(func(c *Counters, put put) {
			for _, o := range c.outcomes() {
				put(float64(c.jobs[o]), o.verb.String(), string(o.result))
			}
		}),
	},
	{
		"supervisord_reload_drops_total", counter,
		[]string{"unit"},
		"Packets that the service's sockets dropped in the course of reloads and restarts.",
		counted(func(c *Counters, put put) { put(float64(c.drops)) }),
	},

	{
		"supervisord_socket_listening", gauge,
		[]string{"unit", "address"},
		"1 if clients get in or wait, 0 if they are refused.",
		sockets(func(s ipc.Socket, put put) { put(bit(s.Listening)) }),
	},
	{
		"supervisord_socket_queue_length", gauge,
		[]string{"unit", "address"},
		"Connections that wait to be accepted; of all processes together where the socket is steered.",
		sockets(func(s ipc.Socket, put put) { known(s.Queue, put) }),
	},
	{
		"supervisord_socket_queue_limit", gauge,
		[]string{"unit", "address"},
		"How many may wait.",
		sockets(func(s ipc.Socket, put put) { known(s.Limit, put) }),
	},
	{
		"supervisord_socket_drops_total", counter,
		[]string{"unit", "address"},
		"Packets that the kernel dropped at a socket: handshakes that found no room, and what belongs to no connection.",
		sockets(func(s ipc.Socket, put put) { put(float64(s.Drops)) }),
	},
	{
		"supervisord_socket_unsteered", gauge,
		[]string{"unit"},
		"1 if a socket was to be steered and all processes share it instead: superctl status says why.",
		func(s *Snapshot, put put) {
			for _, u := range s.Status.Sockets {
				put(bit(u.Unsteered != ""), socketUnit(u))
			}
		},
	},
	{
		"supervisord_socket_faults", gauge,
		[]string{"unit"},
		"How many sockets of a unit are not there, or not as they should be: superctl status says why.",
		func(s *Snapshot, put put) {
			for _, u := range s.Status.Sockets {
				faults := 0
				for _, socket := range u.Sockets {
					faults += int(bit(socket.Error != ""))
				}
				put(float64(faults), socketUnit(u))
			}
		},
	},

	{
		"process_start_time_seconds", gauge, nil,
		"When supervisord was started, in seconds since 1970.",
		func(s *Snapshot, put put) { put(float64(s.Info.Since.UnixMilli()) / 1000) },
	},
	{
		"process_cpu_seconds_total", counter, nil,
		"CPU time that supervisord itself has used.",
		func(_ *Snapshot, put put) { maybe(cpuSeconds, put) },
	},
	{
		"process_resident_memory_bytes", gauge, nil,
		"Memory of supervisord itself.",
		func(_ *Snapshot, put put) { maybe(residentMemory, put) },
	},
	{
		"process_open_fds", gauge, nil,
		"File descriptors that supervisord itself has open.",
		func(_ *Snapshot, put put) { maybe(openFDs, put) },
	},
	{
		"process_max_fds", gauge, nil,
		"How many it may have.",
		func(_ *Snapshot, put put) { maybe(maxFDs, put) },
	},
}

var states = unit.ActiveStates()

var roles = []unit.Role{unit.RoleMain, unit.RoleNext, unit.RoleOld}

// units is what a family has of each service.
func units(of func(ipc.UnitStatus, put)) func(*Snapshot, put) {
	return func(s *Snapshot, put put) {
		for _, u := range s.Status.Services {
			of(u, put)
		}
	}
}

// sockets is what a family has of each socket that is bound.
func sockets(of func(ipc.Socket, put)) func(*Snapshot, put) {
	return func(s *Snapshot, to put) {
		for _, u := range s.Status.Sockets {
			for _, socket := range u.Sockets {
				if socket.Address != "" {
					of(socket, func(value float64, _ ...string) { to(value, socketUnit(u), socket.Address) })
				}
			}
		}
	}
}

func socketUnit(u ipc.SocketUnit) string { return u.Name + ".socket" }

// known leaves out what the kernel does not tell.
func known(n int, put put) {
	if n >= 0 {
		put(float64(n))
	}
}

// maybe leaves out what cannot be read.
func maybe(read func() (float64, error), put put) {
	if value, err := read(); err == nil {
		put(value)
	}
}

func processes(u ipc.UnitStatus, role unit.Role) (n int) {
	for _, p := range u.Processes {
		n += int(bit(p.Role == string(role)))
	}
	return n
}

func share(u ipc.UnitStatus, role unit.Role) (sum float64) {
	for _, p := range u.Processes {
		if p.Role == string(role) {
			sum += p.Share
		}
	}
	return sum / 100
}

func bit(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
