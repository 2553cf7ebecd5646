package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// How connections are handed over.
//
// Who leaves is the giver. It makes a socket pair of its own, keeps one end and
// sends the other through the service's pair: an offer. Whoever is ready and not
// leaving may take that. The taker says hello, or refused if it talks to this giver
// already, and from then on the two talk by themselves. The giver sends one connection a message, the taker answers each by
// taken or refused.
//
// A connection changes hands in the moment in which the taker's answer enters the
// giver's receive queue. The taker touches no byte before, and lets go of it if
// the answer cannot be sent. The giver takes silence for a refusal only after it
// has shut its receive queue, where late answers fail, and has emptied it. So at
// any time exactly one of them has a connection, whichever of them dies.
//
// Each message is one packet: a header and what the kind asks for.
//
//	0  4  "svho"
//	4  1  version
//	5  1  kind
//	6  2  length of the listener's name
//	8  8  number of the connection, chosen by the giver; big endian, as the length
//	16    the listener's name, then the application's state
//
// The header stays as it is in later versions, so that whoever does not know a
// version or a kind can refuse it by its number.
const (
	magic      = "svho"
	version    = 1
	headerSize = 16
)

// MaxState is how many bytes of state may go with a connection, [Conn.Move].
const MaxState = 64 << 10

// maxName bounds a listener's name, as systemd does.
const maxName = 255

// maxMessage is one byte more than a message may have, so that a longer one shows.
const maxMessage = headerSize + maxName + MaxState + 1

// A kind is what a message is.
type kind uint8

const (
	offer     kind = 1 + iota // with the taker's end
	hello                     // the taker will answer
	idleHTTP1                 // with a connection: HTTP/1.x without TLS, between two requests
	withState                 // with a connection, and what its handler knows of it
	taken
	refused
)

// A message is a decoded packet.
type message struct {
	version uint8
	kind    kind
	id      uint64
	name    string
	state   []byte
}

var errForeign = errors.New("not a message of the handover")

func (m message) encode() []byte {
	b := make([]byte, headerSize, headerSize+len(m.name)+len(m.state))
	copy(b, magic)
	b[4], b[5] = version, byte(m.kind)
	binary.BigEndian.PutUint16(b[6:], uint16(len(m.name)))
	binary.BigEndian.PutUint64(b[8:], m.id)
	return append(append(b, m.name...), m.state...)
}

// decode reads a packet. Of another version it reads the header only.
func decode(b []byte) (message, error) {
	if len(b) < headerSize || string(b[:4]) != magic {
		return message{}, errForeign
	}
	m := message{version: b[4], kind: kind(b[5]), id: binary.BigEndian.Uint64(b[8:])}
	if m.version != version {
		return m, nil
	}
	length, rest := int(binary.BigEndian.Uint16(b[6:])), b[headerSize:]
	if length > maxName || length > len(rest) || len(rest)-length > MaxState {
		return m, fmt.Errorf("a message with a name of %d bytes, and %d in all", length, len(b))
	}
	m.name, m.state = string(rest[:length]), rest[length:]
	return m, nil
}

// A packet is a message and the descriptors that came with it, which are owned by
// whoever gets it.
type packet struct {
	message
	fds []int
	err error // why the message could not be read, though it came
}

// receive waits for a packet. The state is in buffer. Descriptors beyond the
// second never enter this process: no message has that many.
func receive(c *net.UnixConn, buffer []byte) (packet, error) {
	control := make([]byte, unix.CmsgSpace(2*4))
	n, nControl, flags, _, err := c.ReadMsgUnix(buffer, control)
	if err != nil {
		return packet{}, err
	}
	p := packet{fds: rights(control[:nControl])}
	p.message, p.err = decode(buffer[:n])
	if p.err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		p.err = errors.New("a message that was cut off")
	}
	return p, nil
}

func rights(control []byte) (fds []int) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		if got, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

// transmit sends a message within the time given.
func transmit(c *net.UnixConn, m message, within time.Duration, fds ...int) error {
	if err := c.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	var control []byte
	if len(fds) > 0 {
		control = unix.UnixRights(fds...)
	}
	_, _, err := c.WriteMsgUnix(m.encode(), control, nil)
	return err
}

// closeAll closes what nobody wants, in the background: to close some kinds of
// file takes as long as a file server likes.
func closeAll(fds []int) {
	if len(fds) == 0 {
		return
	}
	go func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
}
