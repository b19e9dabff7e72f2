// The spike list of a map: walks it row by row, takes one word of LANES neurons a cycle, and queues those in which
// somebody fires. What is silent costs this cycle and no more.
//
// With every word goes what the reader of the map does with this row and column: where its table of taps begins
// and how many taps it has. Rows and words without taps are left out.
`default_nettype none

module snnc_scan #(
    parameter LANES = 16,
    parameter SW = 2,          // bits of a spike
    parameter IW = 12,         // bits of an input
    parameter WORD = 32,       // the larger of LANES * SW and IW
    parameter AW = 16          // bits of an address
) (
    input  wire                 clk,
    input  wire                 rst,
    input  wire                 start,
    output wire                 busy,
    // what to read, and as what
    input  wire                 from_input,
    input  wire                 every,      // queue silent words, too: a maximum is taken over them
    input  wire                 vector,
    input  wire [AW-1:0]        base,
    input  wire [AW-1:0]        stride_y,
    input  wire [AW-1:0]        stride_x,
    input  wire [AW-1:0]        stride_c,
    input  wire [AW-1:0]        rows,
    input  wire [AW-1:0]        columns,
    input  wire [AW-1:0]        blocks,
    input  wire [7:0]           lane_low,   // first lane of the first block
    input  wire [7:0]           lane_high,  // last lane of the last block
    input  wire [AW-1:0]        head_rows,
    input  wire [AW-1:0]        head_columns,
    input  wire [AW-1:0]        weights,
    input  wire [AW-1:0]        weights_block,
    // memories
    output wire                 read,
    output wire [AW-1:0]        addr,
    input  wire [LANES*SW-1:0]  spikes,
    input  wire [IW-1:0]        q,
    output wire                 head_read,
    output wire [AW-1:0]        head_addr,
    input  wire [2*AW-1:0]      head,
    // the list
    input  wire                 room,
    output wire                 push,
    output wire [WORD+6*AW-1:0] entry
);
    localparam [1:0] IDLE = 0, ROW = 1, HEAD = 2, WALK = 3;

    reg [1:0] state;
    reg [AW-1:0] y, x, block;
    reg [AW-1:0] row_addr, column_addr, here;
    reg [AW-1:0] weight_here, block_here;
    reg [AW-1:0] row_start, row_count;
    // one cycle later, beside the data
    reg taken, first, last;
    reg [AW-1:0] weight_taken, block_taken;

    wire walking = state == WALK && room;
    wire last_block = block == blocks - 1'b1;
    wire last_column = x == columns - 1'b1;
    wire last_row = y == rows - 1'b1;
    wire empty_row = head[AW-1:0] == 0;

    assign busy = state != IDLE || taken;
    assign read = walking && !every;
    assign addr = here;
    assign head_read = walking || state == ROW;
    assign head_addr = state == ROW ? head_rows + y : head_columns + x;

    always @(posedge clk) begin
        taken <= walking;
        first <= block == 0;
        last <= last_block;
        weight_taken <= weight_here;
        block_taken <= block_here;
        case (state)
            IDLE: if (start) begin
                state <= ROW;
                y <= 0;
                row_addr <= base;
            end
            ROW: begin
                state <= HEAD;
                x <= 0;
                block <= 0;
                column_addr <= row_addr;
                here <= row_addr;
                weight_here <= weights;
                block_here <= 0;
            end
            HEAD: begin
                row_start <= head[2*AW-1:AW];
                row_count <= head[AW-1:0];
                if (!empty_row) state <= WALK;
                else begin
                    state <= last_row ? IDLE : ROW;
                    y <= y + 1'b1;
                    row_addr <= row_addr + stride_y;
                end
            end
            WALK: if (room) begin
                if (!last_block) begin
                    block <= block + 1'b1;
                    here <= here + stride_c;
                    weight_here <= weight_here + weights_block;
                    block_here <= block_here + AW'(vector);
                end else begin
                    block <= 0;
                    weight_here <= weights;
                    block_here <= 0;
                    x <= x + 1'b1;
                    column_addr <= column_addr + stride_x;
                    here <= column_addr + stride_x;
                    if (last_column) begin
                        state <= last_row ? IDLE : ROW;
                        y <= y + 1'b1;
                        row_addr <= row_addr + stride_y;
                    end
                end
            end
        endcase
        if (rst) begin
            state <= IDLE;
            taken <= 0;
        end
    end

    wire [LANES*SW-1:0] wanted;
    wire [LANES-1:0] from_low = {LANES{1'b1}} << lane_low;
    wire [LANES-1:0] beyond = ({LANES{1'b1}} << 1) << lane_high;
    genvar lane;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : lanes
            wire member = (!first || from_low[lane]) && !(last && beyond[lane]);
            assign wanted[lane*SW +: SW] = member ? spikes[lane*SW +: SW] : {SW{1'b0}};
        end
    endgenerate

    wire [WORD-1:0] word = every ? {WORD{1'b0}} : from_input ? WORD'(q) : WORD'(wanted);
    assign push = taken && (every || word != 0) && head[AW-1:0] != 0;
    assign entry = {word, row_start, row_count, head, weight_taken, block_taken};

`ifdef FORMAL
    // Proved by induction: every address lies in the map and in the tables of heads that the registers describe.
    reg begun = 0;
    always @(posedge clk) begin
        begun <= 1;
        if (!begun) assume (rst);
        assume (rows != 0 && columns != 0 && blocks != 0);
        if (begun) assume ($stable({rows, columns, blocks, base, stride_y, stride_x, stride_c, head_rows,
                                    head_columns, weights, weights_block, vector, every}));
        if (begun && state != IDLE) begin
            assert (y < rows);
            assert (row_addr == AW'(base + y * stride_y));
            if (state == HEAD) assert (x == 0 && block == 0);
            if (state != ROW) begin
                assert (x < columns);
                assert (block < blocks);
                assert (column_addr == AW'(row_addr + x * stride_x));
                assert (here == AW'(column_addr + block * stride_c));
                assert (weight_here == AW'(weights + block * weights_block));
            end
            if (head_read) assert (head_addr == AW'(head_rows + y) || head_addr == AW'(head_columns + x));
        end
    end
`endif
endmodule

`default_nettype wire
