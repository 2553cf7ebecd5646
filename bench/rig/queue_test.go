package rig

import (
	"encoding/binary"
	"net"
	"strings"
	"testing"
)

func TestQueueOfASocketThatNobodyAcceptsFrom(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address := l.Addr().String()
	for want := range 4 {
		n, err := Queue(address)
		for n < want && err == nil { // the last packet of a handshake is on its way
			n, err = Queue(address)
		}
		if n != want || err != nil {
			t.Errorf("%d wait, want %d; %v", n, want, err)
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, err := Queue("nowhere"); err == nil {
		t.Error("a queue at no address")
	}
}

// All shards of an address count, other addresses do not, nor what stands behind the
// listening sockets.
func TestQueueIsTheSumOfAnAddress(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 1 1
   1: 0100007F:1F90 00000000:0000 0A 00000000:0000001F 00:00000000 00000000     0        0 2 1
   2: 0100007F:1F91 00000000:0000 0A 00000000:00000005 00:00000000 00000000     0        0 3 1
   3: 0100007F:1F90 0100007F:A000 01 00000000:00000007 00:00000000 00000000     0        0 4 1
`
	if n, err := queueIn(strings.NewReader(table), "0100007F:1F90"); n != 0x22 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
	if _, err := queueIn(strings.NewReader("heading\nrubbish\n"), ""); err == nil {
		t.Error("rubbish is no error")
	}
	address, err := procAddress("127.0.0.1:8080")
	want := "0100007F:1F90"
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		want = "7F000001:1F90"
	}
	if address != want || err != nil {
		t.Errorf("the kernel writes %s, not %s; %v", want, address, err)
	}
}
