#pragma once
#include <stdint.h>

/* The counter registry: one name everywhere, one line of documentation each.
 * The order groups them: frames, then why frames are dropped, then what was noted about
 * accepted ones, then messages, books, output. */

#define COUNTERS(X) \
    X(frames_received, "frames taken from the source") \
    X(frames_parsed, "frames that became packets of a feed") \
    /* why a frame is dropped: frames_received = frames_parsed + the sum of these */ \
    X(drop_link_unknown, "link type that this build does not parse") \
    X(drop_capture_truncated, "captured length ends inside the headers or the payload") \
    X(drop_frame_short, "frame shorter than its link header") \
    X(drop_vlan, "VLAN tag cut off, or more than two of them") \
    X(drop_arp, "ARP") \
    X(drop_llc, "802.3 length field: LLC, SNAP, spanning tree") \
    X(drop_lldp, "LLDP") \
    X(drop_pause, "MAC control (pause) frame") \
    X(drop_encap, "tunnel or label that is not stripped: MPLS, PPPoE, GRE, IP in IP, VXLAN, ERSPAN") \
    X(drop_ethertype, "any other ethertype") \
    X(drop_ip_version, "IP version field does not fit the ethertype") \
    X(drop_ip_header, "IP header length below 20, beyond the packet, or malformed options") \
    X(drop_ip_length, "IP total length below the header or beyond the frame") \
    X(drop_ip_checksum, "IPv4 header checksum wrong (policy verify)") \
    X(drop_ip_fragment, "IP fragment") \
    X(drop_ipv6_extension, "IPv6 extension header malformed, too many, or no next header") \
    X(drop_tcp, "TCP (passive reassembly is not built)") \
    X(drop_icmp, "ICMP or ICMPv6") \
    X(drop_igmp, "IGMP or MLD") \
    X(drop_ip_protocol, "any other IP protocol") \
    X(drop_udp_length, "UDP length below 8 or beyond the IP payload") \
    X(drop_udp_checksum, "UDP checksum wrong (policy verify), or 0 over IPv6") \
    X(drop_no_feed, "no feed subscribed to this destination") \
    X(drop_unexpected_src, "source address not in the feed's allow-list") \
    X(drop_session_header, "payload shorter than the session header, or wrong version, protocol or channel") \
    X(drop_session_other, "packet of a session that this feed has left") \
    X(drop_sequence, "sequence number 0 or one whose span would wrap") \
    X(drop_untrusted_jump, "sequence too far ahead, or another session, not believed before it is confirmed") \
    /* noted about frames that were accepted */ \
    X(note_ip_checksum, "IPv4 header checksum wrong, accepted") \
    X(note_udp_checksum, "UDP checksum wrong, accepted") \
    X(note_udp_no_checksum, "UDP over IPv4 without checksum") \
    X(note_ts_regress, "frame stamped earlier than the one before it") \
    /* session packets and their message blocks, over all lines */ \
    X(packets_heartbeat, "session heartbeats") \
    X(packets_end_of_session, "end-of-session packets") \
    X(session_resets, "session changes and restarts at sequence 1") \
    X(session_after_end, "data packets after the end of their session") \
    X(session_offset_mismatch, "stream offset that does not fit the sequence number (IEX-TP)") \
    X(line_stale, "times one line was silent for too long while the feed was alive") \
    X(feed_stale, "times all lines were silent for too long") \
    X(session_trailing, "packets with bytes left over after the last block") \
    X(block_cut, "packets that end before their declared message count") \
    /* expected = delivered + lost; received = delivered + duplicate + late + cut + untrusted */ \
    X(messages_expected, "sequences from the first to the last known, over all sessions") \
    X(messages_received, "messages declared by packets of the current session, over all lines") \
    X(messages_delivered, "messages passed on by the arbiter, each sequence once, in order") \
    X(messages_duplicate, "copies of messages that were already delivered or held") \
    X(messages_cut, "messages declared by a packet that ended before them") \
    X(messages_untrusted, "messages in packets dropped as an untrusted jump") \
    X(messages_late, "messages from before the join, or that came after their gap was declared") \
    X(ab_mismatch, "messages whose bytes differ between copies of the same sequence") \
    X(gaps_detected, "times a sequence was missing when a later one arrived") \
    X(gaps_healed, "of these, healed by the other line or by reordering") \
    X(gaps_declared, "of these, given up") \
    X(messages_lost, "sequences given up in declared gaps") \
    /* decoding and books: messages_delivered = decoded + unknown + length */ \
    X(messages_decoded, "messages decoded") \
    X(message_unknown, "message type not in the specification") \
    X(message_length, "known message type with a wrong length") \
    X(book_unknown_order, "execute, cancel, delete or replace of an order not in the book") \
    X(book_duplicate_order, "add of an order id that is live") \
    X(book_over_reduce, "execute or cancel of more than the order's remaining size") \
    X(book_bad_size, "add or replace with size 0") \
    X(book_bad_price, "price 0 or above the protocol's limit") \
    X(book_bad_side, "add with a side that is neither buy nor sell") \
    X(book_unknown_level, "removal of a price level that is not in the book") \
    X(book_instrument, "instrument code out of range, 0, or remapped to another symbol") \
    X(book_full, "no memory left for an order or a level") \
    X(instruments_full, "messages about an instrument beyond the 65,535 of a feed: refused by its symbol") \
    X(book_crossed, "events that left a book crossed or locked") \
    X(quote_size_cut, "quotes with a size above 32 bits, told as undefined, with FLAG_WIDE") \
    /* output */ \
    X(events_written, "records written to the ring") \
    X(events_lost, "records not written because a blocking reader left no room") \
    /* the appliance itself, live */ \
    X(link_changes, "times a source's link went up, down or away") \
    X(answers_sent, "ARP and ICMP echo replies and IGMP reports sent") \
    X(answers_lost, "of these, not taken by the port") \
    X(stalls, "times the receive loop did not run for over a millisecond") \
    X(stall_us, "microseconds of these")

enum { COUNTERS_MAX = 96 };

struct counters { uint64_t value[COUNTERS_MAX]; };

int counter_count(void);
const char *counter_name(int counter);  /* NULL when out of range */
const char *counter_doc(int counter);
int counter_drop_first(void);           /* the reasons for dropped frames are the range */
int counter_drop_last(void);            /* first..last, both included */
