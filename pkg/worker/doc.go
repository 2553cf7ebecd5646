// Package worker lets a service written in Go be replaced while it serves.
//
// A supervisor that restarts by overlap, such as supervisord or systemd's socket
// activation, owns the listening sockets. It starts the new process beside the
// old one, waits until the new one says that it is ready, and only then tells
// the old one to go. No connection needs to be lost by this, but a plain
// http.Server loses some: its Shutdown closes kept-alive connections under the
// requests that are on their way to it. This package has what is missing.
//
// # Adopting it
//
// Where main calls ListenAndServe, it calls [Serve]:
//
//	srv := &http.Server{Addr: "127.0.0.1:8080", Handler: mux}
//	if err := worker.Serve(context.Background(), srv); err != nil {
//		log.Fatal(err)
//	}
//
// Under a supervisor srv serves every stream socket that was passed to the
// process; otherwise it listens on srv.Addr. A [Group] serves several servers,
// or some sockets only, which [Listen] gives by name.
//
// # How a process leaves
//
// On SIGTERM, SIGINT or the end of its context, Serve says STOPPING=1 and stops
// accepting. New connections are the other process's from then on. What it had
// accepted it still serves, for at most [Group.Drain]:
//
//   - An idle HTTP/1.1 connection without TLS moves to the next process, if the
//     supervisor passed the means for that; see below. Its client notices nothing.
//   - Any other HTTP/1.1 connection has its next request answered with
//     "Connection: close". Then it is closed in such a way that the answer
//     arrives also if the client was sending.
//   - An HTTP/2 connection is sent GOAWAY, and its streams finish.
//   - Hijacked connections, WebSockets above all, and long answers find out by
//     [Leaving]; what a Group's [Group.Conns] serves, by its context.
//
// # Handover
//
// A supervisor with `handover = true` gives all generations of a service the two
// ends of one socket pair, named by SUPERVISORD_HANDOVER. A process that leaves
// offers its connections there; those that are ready and do not leave take them,
// each some. It does not matter which of them is newer, so going back to an older
// release works as well. A connection that nobody takes is treated as if there
// were no handover.
//
// Who takes a connection trusts whoever gave it no more than a client: what is not
// an open connection of a socket that it serves is refused.
package worker
