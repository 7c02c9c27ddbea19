//! ARP announcements: the frames that tell a network where an address now is.
//!
//! Layout: RFC 826; an announcement is a request for the own address (RFC 5227 section 1.1), and since some systems learn
//! from replies only, the same as a reply.

use std::net::Ipv4Addr;

use super::mac::Mac;

/// ARP's number among Ethernet protocols.
const ETHERTYPE: u16 = 0x0806;

/// An ARP operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Request = 1,
    Reply = 2,
}

/// The whole frame, addressed to everybody: `address` is at `mac`.
pub(super) fn announcement(mac: Mac, address: Ipv4Addr, operation: Operation) -> [u8; 42] {
    const EVERYBODY: [u8; 6] = [0xff; 6];
    let target = match operation {
        // Unknown in a question; in an answer to everybody it is everybody.
        Operation::Request => [0; 6],
        Operation::Reply => EVERYBODY,
    };
    let parts: [&[u8]; 11] = [
        &EVERYBODY,
        &mac.0,
        &ETHERTYPE.to_be_bytes(),
        &1_u16.to_be_bytes(),      // hardware: Ethernet
        &0x0800_u16.to_be_bytes(), // protocol: IPv4
        &[6, 4],                   // lengths of both addresses
        &(operation as u16).to_be_bytes(),
        &mac.0,
        &address.octets(),
        &target,
        &address.octets(),
    ];
    let mut frame = [0; 42];
    for (byte, value) in frame.iter_mut().zip(parts.concat()) {
        *byte = value;
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_exact() {
        let mac = Mac([0xfa, 0x16, 0x3e, 1, 2, 3]);
        let address = Ipv4Addr::new(10, 20, 20, 5);
        #[rustfmt::skip]
        let request = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfa, 0x16, 0x3e, 1, 2, 3, 0x08, 0x06,
            0, 1, 0x08, 0, 6, 4, 0, 1,
            0xfa, 0x16, 0x3e, 1, 2, 3, 10, 20, 20, 5,
            0, 0, 0, 0, 0, 0, 10, 20, 20, 5,
        ];
        assert_eq!(announcement(mac, address, Operation::Request), request);
        let mut reply = request;
        reply[21] = 2;
        reply[32..38].fill(0xff);
        assert_eq!(announcement(mac, address, Operation::Reply), reply);
    }
}
