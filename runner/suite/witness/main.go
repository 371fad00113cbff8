// Command witness is a second opinion on an outage: a sampler that shares no line of code with Rebound's own. It
// opens a plain TCP connection every few milliseconds, asks for "/" in HTTP/1.0, and prints, when its standard input
// ends, the longest outage it saw after the first good answer, as JSON in seconds: {"lo": …, "hi": …, "bad": …,
// "asked": …}.
//
// The soak test runs it inside a node of the cluster, beside Rebound's prober.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sort"
	"strings"
	"sync"
	"time"
)

type answer struct {
	asked, settled time.Duration
	good           bool
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: witness ADDRESS:PORT")
		os.Exit(2)
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // its end is all that matters
		close(stop)
	}()
	report(listen(os.Args[1], stop))
}

// listen asks every 7 ms, for ten minutes at most: a period that does not divide the prober's, so that the two do not
// march in step.
func listen(address string, stop <-chan struct{}) []answer {
	var (
		mu      sync.Mutex
		pending sync.WaitGroup
		answers []answer
	)
	zero := time.Now()
	pulse := time.NewTicker(7 * time.Millisecond)
	defer pulse.Stop()
	end := time.After(10 * time.Minute)
	for {
		select {
		case <-pulse.C:
			pending.Add(1)
			go func() {
				defer pending.Done()
				asked := time.Since(zero)
				good := ask(address)
				settled := time.Since(zero)
				mu.Lock()
				defer mu.Unlock()
				answers = append(answers, answer{asked, settled, good})
			}()
		case <-stop:
			pending.Wait()
			return answers
		case <-end:
			pending.Wait()
			return answers
		}
	}
}

// ask tells whether one request was answered with 200 within a second.
func ask(address string) bool {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(time.Second)) != nil {
		return false
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\nHost: witness\r\n\r\n"); err != nil {
		return false
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && strings.Contains(line, " 200 ")
}

// report finds the longest stretch without a good answer that lies between two good ones.
func report(answers []answer) {
	sort.Slice(answers, func(i, j int) bool { return answers[i].asked < answers[j].asked })
	var lo, hi time.Duration
	bad := 0
	before := -1 // the latest good answer
	for i := 0; i < len(answers); i++ {
		if answers[i].good {
			before = i
			continue
		}
		if before < 0 {
			continue // not up yet
		}
		bad++
		firstEnd, lastStart := answers[i].settled, answers[i].asked
		j := i
		for j < len(answers) && !answers[j].good {
			firstEnd = min(firstEnd, answers[j].settled)
			lastStart = answers[j].asked
			j++
		}
		if j == len(answers) {
			break // not over when we were stopped
		}
		if stretch := answers[j].settled - answers[before].asked; stretch > hi {
			hi, lo = stretch, max(0, lastStart-firstEnd)
		}
		bad += j - i - 1
		i = j - 1
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"lo": lo.Seconds(), "hi": hi.Seconds(), "bad": bad, "asked": len(answers)})
}
