package worker

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// dial connects to the leaver.
func (v *leaver) dial(t *testing.T) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", v.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c, bufio.NewReader(c)
}

// take takes the connection that is offered next.
func (v *leaver) take(t *testing.T) packet {
	t.Helper()
	v.taker.SetReadDeadline(time.Now().Add(10 * time.Second))
	p, err := receive(v.taker, make([]byte, maxMessage))
	if err != nil || p.kind != idleHTTP1 || len(p.fds) != 1 {
		t.Fatalf("the taker got %+v, %v", p, err)
	}
	if err := transmit(v.taker, message{kind: taken, id: p.id}, time.Second); err != nil {
		t.Fatal(err)
	}
	return p
}

// awaitMove takes a connection, of which its process must have read nothing that it
// has not answered.
func (v *leaver) awaitMove(t *testing.T, client io.Writer) {
	t.Helper()
	moved, err := fileConn(v.take(t).fds[0])
	if err != nil {
		t.Fatal(err)
	}
	defer moved.Close()
	io.WriteString(client, "next")
	b := make([]byte, 4)
	if _, err := io.ReadFull(moved, b); string(b) != "next" || err != nil {
		t.Errorf("the taker read %q, %v", b, err)
	}
}

func post(fields, body string) string {
	return "POST / HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n" + body
}

func sized(n int) string {
	return post(fmt.Sprintf("Content-Length: %d\r\n", n), strings.Repeat("x", n))
}

func TestAConnectionRestsWhateverItWasAsked(t *testing.T) {
	chunk := strings.Repeat("x", 5000)
	chunked := strings.Repeat(fmt.Sprintf("%x\r\n%s\r\n", len(chunk), chunk), 20) + "0\r\n\r\n"
	for _, test := range []struct{ name, request string }{
		{"Empty", sized(0)},
		{"Small", sized(10)},
		{"Buffer", sized(4096)},
		{"Large", sized(20_000)},
		{"Larger", sized(1_000_000)},
		{"Chunked", post("Transfer-Encoding: chunked\r\n", chunked)},
		{"Trailers", post("Transfer-Encoding: chunked\r\nTrailer: T\r\n", strings.TrimSuffix(chunked, "\r\n")+"T: x\r\n\r\n")},
		{"Unread", post("Read: 0\r\nContent-Length: 100000\r\n", strings.Repeat("x", 100_000))},
		{"UnreadChunked", post("Read: 0\r\nTransfer-Encoding: chunked\r\n", chunked)},
		{"LargeHeader", post("X: "+strings.Repeat("x", 100_000)+"\r\n", "")},
		{"HTTP1.0", "POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("x", 20_000)},
		{"ExpectContinue", post("Expect: 100-continue\r\nContent-Length: 20000\r\n", strings.Repeat("x", 20_000))},
		{"Pipelined", sized(20_000) + sized(20_000)},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := newLeaver(t)
			c, r := v.dial(t)
			go io.WriteString(c, test.request)
			for range strings.Count(test.request, "POST") {
				<-v.began
				v.release <- struct{}{}
				if strings.Contains(test.request, "100-continue") {
					if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusContinue {
						t.Fatalf("answer is %+v, %v", resp, err)
					}
				}
				answerIs(t, r, "POST")
			}
			v.setOut()
			v.awaitMove(t, c)
		})
	}
}

// A request whose head was read with the one before it is read from the connection
// by its handler, and in whatever pieces the handler likes.
func TestABodyIsReadToItsEndBeforeItsConnectionMoves(t *testing.T) {
	size := serverBuffer()
	for _, read := range []int{1, 512, size - 1, size, size + 1, 2 * size} {
		t.Run(strconv.Itoa(read), func(t *testing.T) {
			v := newLeaver(t)
			c, r := v.dial(t)
			second := post(fmt.Sprintf("Read: %d\r\nContent-Length: 20000\r\n", read), strings.Repeat("x", 20_000))
			head := len(second) - 20_000
			v.request(t, c, sized(0)+second[:head])
			v.setOut()
			v.release <- struct{}{}
			answerIs(t, r, "POST")
			io.WriteString(c, second[head:])
			<-v.began
			v.release <- struct{}{}
			answerIs(t, r, "POST")
			v.awaitMove(t, c)
		})
	}
}

// OPTIONS * is answered by net/http unless that is turned off.
func TestAConnectionMovesAfterOptionsForTheServer(t *testing.T) {
	v := newLeaver(t)
	c, r := v.dial(t)
	fmt.Fprint(c, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
	answerIs(t, r, "")
	v.setOut()
	v.awaitMove(t, c)
}

// A client may send many requests at once, and then waits for the answers.
func TestABatchIsAnsweredBeforeItsConnectionMoves(t *testing.T) {
	const batch = 3 * maxRestless
	v := newLeaver(t)
	c, r := v.dial(t)
	v.request(t, c, strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", batch))
	v.setOut()
	for i := range batch {
		if i > 0 {
			<-v.began
		}
		v.release <- struct{}{}
		answerIs(t, r, "GET")
	}
	v.awaitMove(t, c)
}
