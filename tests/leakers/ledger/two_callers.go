// One function opens for two callers at equal depth, and one of these forgets to close: two_callers.go PORT.
package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

// What is forgotten must not be found by the collector, whose finalizer would close it.
var forgotten []net.Conn

//go:noinline
func openChannel(asked string) net.Conn {
	conn, err := net.Dial("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		panic(err)
	}
	conn.Write([]byte(asked))
	conn.Read(make([]byte, 16))
	return conn
}

//go:noinline
func importPrices() {
	conn := openChannel("prices\n") // caller: main.importPrices
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		panic(err)
	}
	raw.Control(func(fd uintptr) { fmt.Println("leaked", os.Getpid(), fd) })
	forgotten = append(forgotten, conn)
}

//go:noinline
func importStocks() {
	conn := openChannel("stocks\n")
	conn.Close()
}

func main() {
	fmt.Println(os.Getpid())
	for round := 0; ; round++ {
		if round%3 == 1 {
			importStocks()
		}
		if round%5 == 0 {
			importPrices()
		}
		time.Sleep(100 * time.Millisecond)
	}
}
