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
// process; otherwise it listens on srv.Addr. The options of srv mean what they mean
// to net/http. A [Group] serves several servers, or chosen sockets, which [Listen]
// gives by name, or protocols of one's own.
//
// # How a process leaves
//
// On SIGTERM, SIGINT or the end of its context, Serve says STOPPING=1 and stops
// accepting. New connections are the other process's from then on. What was
// registered by [http.Server.RegisterOnShutdown] is called. The connections that
// are open are still served, for at most [Group.Drain]:
//
//   - An idle HTTP/1.1 connection without TLS moves to the next process, if the
//     supervisor passed the means for that; see below. Its client notices nothing.
//   - Any other HTTP/1.1 connection has its next request answered with
//     "Connection: close". Then it is closed in such a way that the answer
//     arrives even if the client was sending.
//   - An HTTP/2 connection is sent GOAWAY, and its streams finish.
//   - Handlers of long answers, WebSockets and other hijacked connections find out
//     by [Leaving], as do those of [Group.Conns], which may move theirs by
//     [Conn.Move].
//
// When all have left, Serve returns nil. When the drain time is over it closes the
// rest, and returns [ErrCut] if any of them was in use.
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
// A connection moves between two requests, whatever they were: bodies of any size,
// in chunks, expected or not read by the handler. One whose client has sent part of
// the next request is served until it rests. The limits of time of the http.Server
// that takes it go on from where they were. To functions such as
// [http.Server.ConnState] it is closed in the one process, and new in the other.
//
// Who takes a connection trusts whoever gave it no more than a client: what is not
// an open connection of a socket that it serves is refused.
//
// # Hijacked connections
//
// What [http.Hijacker.Hijack] returns is not the *net.TCPConn or *net.UnixConn that was
// accepted, since this package has to know when it is closed. It has their methods,
// so that an assertion to an interface works where one to the type does not; its
// NetConn method returns the connection itself, which must not be closed or read in its
// place. With TLS it is a *tls.Conn, as ever. While the process leaves, Close returns
// at once and the connection is closed when its client has read what was sent, or
// after two seconds. A hijacked connection never moves by itself; Serve waits for it.
package worker
