package load

import "time"

// A Mode is how a client behaves.
type Mode struct {
	Name     string
	Protocol Protocol
	Socket   Socket // that it asks on
	Method   string
	Keep     bool          // the connection, for the next request
	Query    string        // of each request
	Takes    time.Duration // what the answer takes by itself, as the query asks for
	Streams  bool          // the answer comes in parts
	Body     int           // bytes of a POST; 0: as the options say
	Chunked  bool          // a POST does not say how long it is
}

// A Protocol is what is spoken on a connection.
type Protocol string

const (
	HTTP1     Protocol = "HTTP/1.1"
	HTTP2     Protocol = "HTTP/2"
	WebSocket Protocol = "WebSocket"
	Framed    Protocol = "messages behind their length"
)

// A Socket is one of those that the worker serves.
type Socket string

const (
	Plain Socket = "http" // HTTP/1.1, HTTP/2 and WebSockets without TLS
	Unix  Socket = "unix" // the same, on a unix socket
	TLS   Socket = "tls"  // HTTP/1.1 and HTTP/2
	TCP   Socket = "tcp"  // messages
)

// Modes are all that there are, in the order of the report.
var Modes = []Mode{
	{Name: "new", Protocol: HTTP1, Socket: Plain, Method: "GET"},
	{Name: "keepalive-get", Protocol: HTTP1, Socket: Plain, Method: "GET", Keep: true},
	{Name: "keepalive-post", Protocol: HTTP1, Socket: Plain, Method: "POST", Keep: true},
	{Name: "large-post", Protocol: HTTP1, Socket: Plain, Method: "POST", Keep: true, Body: 64 << 10},
	{Name: "large-chunked", Protocol: HTTP1, Socket: Plain, Method: "POST", Keep: true, Body: 64 << 10, Chunked: true},
	{Name: "in-flight", Protocol: HTTP1, Socket: Plain, Method: "GET", Keep: true, Query: "?take=500ms", Takes: 500 * time.Millisecond},
	{Name: "stream", Protocol: HTTP1, Socket: Plain, Method: "GET", Query: "?stream=3s", Takes: 3 * time.Second, Streams: true},
	{Name: "unix-new", Protocol: HTTP1, Socket: Unix, Method: "GET"},
	{Name: "unix-keepalive-post", Protocol: HTTP1, Socket: Unix, Method: "POST", Keep: true},
	{Name: "tls-new", Protocol: HTTP1, Socket: TLS, Method: "GET"},
	{Name: "tls-keepalive-post", Protocol: HTTP1, Socket: TLS, Method: "POST", Keep: true},
	{Name: "h2", Protocol: HTTP2, Socket: TLS, Method: "POST", Keep: true},
	{Name: "h2c", Protocol: HTTP2, Socket: Plain, Method: "POST", Keep: true},
	{Name: "h2-in-flight", Protocol: HTTP2, Socket: TLS, Method: "POST", Keep: true, Query: "?take=500ms", Takes: 500 * time.Millisecond},
	{Name: "websocket", Protocol: WebSocket, Socket: Plain, Method: "POST", Keep: true},
	{Name: "tcp", Protocol: Framed, Socket: TCP, Method: "POST", Keep: true},
}

// HandedOver says whether a process can pass an idle connection of the mode on to
// another, so that its client notices nothing.
func (m Mode) HandedOver() bool {
	return m.Keep && (m.Protocol == HTTP1 || m.Protocol == Framed) && m.Socket != TLS
}
