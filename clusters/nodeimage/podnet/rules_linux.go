package podnet

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// TableName is the name of our nftables table on every node.
const TableName = "rebound-podnet"

const chainName = "hide-pod-addresses"

// masquerade are the rules of the chain: for each subnet, what stays among pods is left alone and what leaves takes
// the node's address. Replies find their way back by connection tracking.
func masquerade(subnets []netip.Prefix) [][]expr.Any {
	var rules [][]expr.Any
	for _, subnet := range subnets {
		from := append(family(subnet), within(subnet, true)...)
		inside := append(append([]expr.Any{}, from...), within(subnet, false)...)
		rules = append(rules,
			append(inside, &expr.Verdict{Kind: expr.VerdictReturn}),
			append(from, &expr.Masq{FullyRandom: true}),
		)
	}
	return rules
}

// family matches packets of the subnet's address family.
func family(subnet netip.Prefix) []expr.Any {
	protocol := byte(unix.NFPROTO_IPV4)
	if subnet.Addr().Is6() {
		protocol = unix.NFPROTO_IPV6
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
	}
}

// within matches packets whose source, or else destination, lies in the subnet.
func within(subnet netip.Prefix, source bool) []expr.Any {
	length, at := uint32(4), uint32(16) // of an IPv4 address, and where the destination stands in its header
	if subnet.Addr().Is6() {
		length, at = 16, 24
	}
	if source {
		at -= length
	}
	mask := make([]byte, length)
	for bit := range subnet.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: length},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: mask, Xor: make([]byte, length)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: subnet.Masked().Addr().AsSlice()},
	}
}

// addTable queues our table with all it holds; what an earlier run left goes in the same batch.
func addTable(connection *nftables.Conn, subnets []netip.Prefix) {
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: TableName}
	connection.AddTable(table) // removing one that is not there is an error, so it is made first
	connection.DelTable(table)
	connection.AddTable(table)
	chain := connection.AddChain(&nftables.Chain{
		Name: chainName, Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	for _, rule := range masquerade(subnets) {
		counted := append(append([]expr.Any{}, rule[:len(rule)-1]...), &expr.Counter{}, rule[len(rule)-1])
		connection.AddRule(&nftables.Rule{
			Table: table, Chain: chain, Exprs: counted,
		})
	}
}
