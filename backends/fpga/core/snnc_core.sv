// The core: memories, units, and a sequencer that takes an image, walks the program and sends the scores.
//
// An instruction is 32 bits: eight of opcode, 24 of value. Opcodes below 32 set the register of that number; the
// others start a unit and wait for it. docs/fpga.md describes registers, opcodes and memories.
`default_nettype none

module snnc_core #(
    parameter LANES = 16,            // parallel additions
    parameter SW = 2,                // bits of a spike
    parameter IW = 12,               // bits of an input
    parameter VW = 24,               // bits of a potential
    parameter NW = 8,                // bits of a count
    parameter AW = 16,               // bits of an address
    parameter PROGRAM_DEPTH = 256,
    parameter WEIGHT_DEPTH = 256,
    parameter HEAD_DEPTH = 64,
    parameter ROW_DEPTH = 64,
    parameter COLUMN_DEPTH = 64,
    parameter PARAMETER_DEPTH = 64,
    parameter POTENTIAL_DEPTH = 64,
    parameter COUNT_DEPTH = 64,
    parameter SPIKE_DEPTH = 64,
    parameter INPUT_DEPTH = 65,
    parameter STEPS = 1,             // whether populations follow step functions, or counts are pooled
    parameter MAXIMA = 1,            // whether maxima are taken
    parameter EXTERNAL = 0,          // whether weights are fetched from an external memory
    parameter PROGRAM = "program.hex",
    parameter WEIGHTS = "weights.hex",
    parameter HEADS = "heads.hex",
    parameter ROWS = "rows.hex",
    parameter COLUMNS = "columns.hex",
    parameter PARAMETERS = "parameters.hex",
    parameter INPUT_IMAGE = "input.hex"
) (
    input  wire        clk,
    input  wire        rst,
    input  wire [15:0] s_tdata,      // a quantised input, signed
    input  wire        s_tvalid,
    input  wire        s_tlast,      // optional: the image ends here; if it is not whole, it is dropped
    output wire        s_tready,
    output wire [31:0] m_tdata,      // a score, signed
    output wire        m_tvalid,
    output wire        m_tlast,
    input  wire        m_tready,
    output wire        mark,         // a population has run all its steps, for those who watch
    output wire [15:0] mark_id,
    // external memory: a run of words of 16 bits is asked for, and comes in order
    output wire        x_start,
    output wire [23:0] x_addr,
    output wire [23:0] x_beats,
    input  wire        x_beat,
    input  wire [15:0] x_data
);
    localparam WORD = LANES * SW > IW ? LANES * SW : IW;
    localparam PW = SW > IW ? SW : IW;

    localparam [7:0] PRESET = 32, ADD = 33, FIRE = 34, SEND = 35, MARK = 36, IMAGE = 37, RESTART = 38, LOAD = 39;

    // Registers that a program sets
    reg [AW-1:0] src, src_y, src_x, src_c, rows, columns, blocks_in, head_rows, head_columns;
    reg [AW-1:0] weight_base, weight_lane, weight_block, potential, blocks_out;
    reg [AW-1:0] pixels, blocks, parameter_base, constant, points, target_s, target_v;
    reg [NW-1:0] limit, capacity;
    reg [7:0] lane_low, lane_high;
    reg [AW-1:0] fetched;
    reg [23:0] external;
    reg [5:0] reading;               // bytes(2) maximum vector every input
    reg [7:0] rule;                  // last quiet stepped difference capped memory constant bias

    wire from_input = reading[0], every = MAXIMA != 0 && reading[1], vector = reading[2], maximum = MAXIMA != 0 && reading[3];

    // Sequencer
    localparam [1:0] FETCH = 0, DECODE = 1, BUSY = 2, TAKE = 3;
    reg [1:0] state;
    reg [AW-1:0] pc, received, inputs;
    wire [31:0] instruction;
    wire [7:0] opcode = instruction[31:24];
    wire [23:0] value = instruction[23:0];
    wire decode = state == DECODE;
    wire start_add = decode && opcode == ADD;
    wire start_fire = decode && (opcode == FIRE || opcode == PRESET);
    wire start_send = decode && opcode == SEND;
    wire start_load = EXTERNAL != 0 && decode && opcode == LOAD;
    wire scan_busy, taps_busy, lanes_busy, fire_busy, send_busy, load_busy, listed;
    wire working = scan_busy || listed || taps_busy || lanes_busy || fire_busy || send_busy || load_busy;
    wire take = s_tvalid && s_tready;
    wire whole = received == inputs - 1'b1;

    assign s_tready = state == TAKE;
    assign mark = decode && opcode == MARK;
    assign mark_id = value[15:0];

    always @(posedge clk) begin
        case (state)
            FETCH: state <= DECODE;
            DECODE: begin
                pc <= opcode == RESTART ? {AW{1'b0}} : pc + 1'b1;
                state <= start_add || start_fire || start_send || start_load ? BUSY : opcode == IMAGE ? TAKE : FETCH;
                received <= 0;
                case (opcode)
                    0: src <= AW'(value);
                    1: src_y <= AW'(value);
                    2: src_x <= AW'(value);
                    3: src_c <= AW'(value);
                    4: rows <= AW'(value);
                    5: columns <= AW'(value);
                    6: blocks_in <= AW'(value);
                    7: {lane_high, lane_low} <= value[15:0];
                    8: reading <= value[5:0];
                    9: head_rows <= AW'(value);
                    10: head_columns <= AW'(value);
                    11: weight_base <= AW'(value);
                    12: weight_lane <= AW'(value);
                    13: weight_block <= AW'(value);
                    14: potential <= AW'(value);
                    15: blocks_out <= AW'(value);
                    16: pixels <= AW'(value);
                    17: blocks <= AW'(value);
                    18: parameter_base <= AW'(value);
                    19: target_s <= AW'(value);
                    20: rule <= value[7:0];
                    21: limit <= NW'(value);
                    22: capacity <= NW'(value);
                    23: constant <= AW'(value);
                    24: points <= AW'(value);
                    25: target_v <= AW'(value);
                    26: inputs <= AW'(value);
                    27: external <= value;
                    28: fetched <= AW'(value);
                    default: ;
                endcase
            end
            BUSY: if (!working) state <= FETCH;
            TAKE: if (take) begin
                received <= s_tlast ? {AW{1'b0}} : received + 1'b1;
                if (whole) state <= FETCH;
            end
        endcase
        if (rst) begin
            state <= FETCH;
            pc <= 0;
        end
    end

    wire unused = &{1'b0, s_tdata, value};

    snnc_ram #(.WIDTH(32), .DEPTH(PROGRAM_DEPTH), .AW(AW), .INIT(PROGRAM)) programs (
        .clk(clk), .we(1'b0), .waddr({AW{1'b0}}), .wdata(32'b0),
        .re(state == FETCH), .raddr(pc), .rdata(instruction)
    );

    // The list of spikes
    wire s_read, head_read, push, pop, room;
    wire [AW-1:0] scan_addr, head_addr;
    wire [2*AW-1:0] head;
    wire [LANES*SW-1:0] spikes;
    wire [IW-1:0] q;
    wire [WORD+6*AW-1:0] entry_in, entry;

    snnc_scan #(.LANES(LANES), .SW(SW), .IW(IW), .WORD(WORD), .AW(AW)) scan (
        .clk(clk), .rst(rst), .start(start_add), .busy(scan_busy),
        .from_input(from_input), .every(every), .vector(vector), .base(src), .stride_y(src_y), .stride_x(src_x),
        .stride_c(src_c), .rows(rows), .columns(columns), .blocks(blocks_in), .lane_low(lane_low),
        .lane_high(lane_high), .head_rows(head_rows), .head_columns(head_columns), .weights(weight_base),
        .weights_block(weight_block), .read(s_read), .addr(scan_addr), .spikes(spikes), .q(q),
        .head_read(head_read), .head_addr(head_addr), .head(head), .room(room), .push(push), .entry(entry_in)
    );

    snnc_ram #(.WIDTH(2*AW), .DEPTH(HEAD_DEPTH), .AW(AW), .INIT(HEADS)) heads (
        .clk(clk), .we(1'b0), .waddr({AW{1'b0}}), .wdata({2*AW{1'b0}}),
        .re(head_read), .raddr(head_addr), .rdata(head)
    );

    snnc_ram #(.WIDTH(IW), .DEPTH(INPUT_DEPTH), .AW(AW), .INIT(INPUT_IMAGE)) input_words (
        .clk(clk), .we(take), .waddr(received), .wdata(s_tdata[IW-1:0]),
        .re(s_read && from_input), .raddr(scan_addr), .rdata(q)
    );

    snnc_fifo #(.WIDTH(WORD + 6*AW), .LOG(2)) list (
        .clk(clk), .rst(rst), .push(push), .din(entry_in), .pop(pop), .dout(entry), .valid(listed), .room(room)
    );

    // Their fan-out
    wire tap_read, tap, tap_first, tap_last;
    wire [AW-1:0] row_addr, column_addr, tap_weight, tap_potential;
    wire [2*AW-1:0] row_tap, column_tap;
    wire [PW-1:0] tap_payload;
    wire [LANES*SW-1:0] tap_spikes;

    snnc_taps #(.LANES(LANES), .SW(SW), .IW(IW), .WORD(WORD), .PW(PW), .AW(AW)) taps (
        .clk(clk), .rst(rst), .busy(taps_busy), .from_input(from_input), .whole(vector || every),
        .blocks(blocks_out), .weights_lane(weight_lane), .potentials(potential), .valid(listed), .entry(entry),
        .pop(pop), .read(tap_read), .row_addr(row_addr), .row_tap(row_tap), .column_addr(column_addr),
        .column_tap(column_tap), .tap(tap), .tap_first(tap_first), .tap_last(tap_last),
        .tap_weight(tap_weight), .tap_potential(tap_potential), .tap_payload(tap_payload),
        .tap_spikes(tap_spikes)
    );

    snnc_ram #(.WIDTH(2*AW), .DEPTH(ROW_DEPTH), .AW(AW), .INIT(ROWS)) row_taps (
        .clk(clk), .we(1'b0), .waddr({AW{1'b0}}), .wdata({2*AW{1'b0}}),
        .re(tap_read), .raddr(row_addr), .rdata(row_tap)
    );

    snnc_ram #(.WIDTH(2*AW), .DEPTH(COLUMN_DEPTH), .AW(AW), .INIT(COLUMNS)) column_taps (
        .clk(clk), .we(1'b0), .waddr({AW{1'b0}}), .wdata({2*AW{1'b0}}),
        .re(tap_read), .raddr(column_addr), .rdata(column_tap)
    );

    wire weight_read, lanes_read, lanes_write;
    wire [AW-1:0] weight_addr, lanes_read_addr, lanes_write_addr;
    wire [LANES*8-1:0] weights;
    wire [LANES*VW-1:0] v_data, lanes_out;

    snnc_lanes #(.LANES(LANES), .SW(SW), .PW(PW), .VW(VW), .AW(AW)) lanes (
        .clk(clk), .rst(rst), .busy(lanes_busy), .vector(vector), .maximum(maximum), .bytes(reading[5:4]),
        .start(start_add), .target(target_v), .tap(tap), .tap_first(tap_first), .tap_last(tap_last),
        .tap_weight(tap_weight), .tap_potential(tap_potential), .tap_payload(tap_payload),
        .tap_spikes(tap_spikes), .weight_read(weight_read), .weight_addr(weight_addr), .weights(weights),
        .read(lanes_read), .read_addr(lanes_read_addr), .potentials(v_data), .write(lanes_write),
        .write_addr(lanes_write_addr), .sums(lanes_out)
    );

    wire load_write;
    wire [AW-1:0] load_addr;
    wire [LANES*8-1:0] load_word;

    generate
        if (EXTERNAL != 0) begin : fetching
            snnc_load #(.LANES(LANES), .AW(AW)) load (
                .clk(clk), .rst(rst), .start(start_load), .busy(load_busy), .words(fetched), .target(AW'(value)),
                .beats(x_beats), .beat(x_beat), .data(x_data), .write(load_write), .write_addr(load_addr),
                .word(load_word)
            );
        end else begin : resident
            wire unused_beat = &{1'b0, x_beat, x_data, fetched};
            assign {load_busy, load_write, load_addr, load_word, x_beats} = 0;
        end
    endgenerate
    assign x_start = start_load;
    assign x_addr = external;

    snnc_ram #(.WIDTH(LANES*8), .DEPTH(WEIGHT_DEPTH), .AW(AW), .INIT(WEIGHTS)) weight_words (
        .clk(clk), .we(load_write), .waddr(load_addr), .wdata(load_word),
        .re(weight_read), .raddr(weight_addr), .rdata(weights)
    );

    // Populations
    wire parameter_read, fire_read, fire_write, n_read, n_write, s_write;
    wire [AW-1:0] parameter_addr, fire_read_addr, fire_write_addr, fire_offset, s_addr;
    wire [LANES*VW-1:0] parameter_data, fire_out;
    wire [LANES*NW-1:0] n_data, n_out;
    wire [LANES*SW-1:0] s_out;

    snnc_fire #(.LANES(LANES), .SW(SW), .VW(VW), .NW(NW), .AW(AW)) fire (
        .clk(clk), .rst(rst), .start(start_fire), .preset(opcode == PRESET), .busy(fire_busy), .quiet(rule[6]),
        .add_bias(rule[0]), .add_constant(rule[1]), .memory(rule[2]), .capped(rule[3]), .difference(STEPS != 0 && rule[4]),
        .stepped(STEPS != 0 && rule[5]), .pixels(pixels), .blocks(blocks), .potentials(potential), .constants(constant),
        .parameters(parameter_base), .points(points), .target(target_s), .limit(limit), .capacity(capacity),
        .parameter_read(parameter_read), .parameter_addr(parameter_addr), .parameter_data(parameter_data),
        .v_read(fire_read), .v_read_addr(fire_read_addr), .v_data(v_data), .n_read(n_read), .n_data(n_data),
        .offset(fire_offset), .v_write(fire_write), .v_write_addr(fire_write_addr), .v_out(fire_out),
        .n_write(n_write), .n_out(n_out), .s_write(s_write), .s_addr(s_addr), .s_out(s_out)
    );

    snnc_ram #(.WIDTH(LANES*VW), .DEPTH(PARAMETER_DEPTH), .AW(AW), .INIT(PARAMETERS)) parameter_words (
        .clk(clk), .we(1'b0), .waddr({AW{1'b0}}), .wdata({LANES*VW{1'b0}}),
        .re(parameter_read), .raddr(parameter_addr), .rdata(parameter_data)
    );

    snnc_ram #(.WIDTH(LANES*NW), .DEPTH(COUNT_DEPTH), .AW(AW)) counts (
        .clk(clk), .we(n_write), .waddr(fire_offset), .wdata(n_out),
        .re(n_read), .raddr(fire_offset), .rdata(n_data)
    );

    snnc_ram #(.WIDTH(LANES*SW), .DEPTH(SPIKE_DEPTH), .AW(AW)) spike_words (
        .clk(clk), .we(s_write), .waddr(s_addr), .wdata(s_out),
        .re(s_read && !from_input), .raddr(scan_addr), .rdata(spikes)
    );

    // Scores
    wire send_read;
    wire [AW-1:0] send_read_addr;

    snnc_send #(.LANES(LANES), .VW(VW), .AW(AW)) send (
        .clk(clk), .rst(rst), .start(start_send), .busy(send_busy), .final_one(rule[7]), .pixels(pixels),
        .blocks(blocks), .lane_high(lane_high), .potentials(potential), .read(send_read),
        .read_addr(send_read_addr), .data(v_data), .m_tdata(m_tdata), .m_tvalid(m_tvalid), .m_tlast(m_tlast),
        .m_tready(m_tready)
    );

    // One unit works at a time, so the potentials need one port each for reading and writing.
    snnc_ram #(.WIDTH(LANES*VW), .DEPTH(POTENTIAL_DEPTH), .AW(AW)) potentials (
        .clk(clk), .we(lanes_write || fire_write), .waddr(lanes_write ? lanes_write_addr : fire_write_addr),
        .wdata(lanes_write ? lanes_out : fire_out), .re(lanes_read || fire_read || send_read),
        .raddr(lanes_read ? lanes_read_addr : fire_read ? fire_read_addr : send_read_addr), .rdata(v_data)
    );
endmodule

`default_nettype wire
