// The fan-out of the spikes on the list: for each neuron that fired (or all lanes of a word at once), for each tap
// down, each tap across and each block of outputs, the address of a potential and of its weight. One a cycle.
`default_nettype none

module snnc_taps #(
    parameter LANES = 16,
    parameter SW = 2,
    parameter IW = 12,
    parameter WORD = 32,
    parameter PW = 12,         // bits of what a spike carries: the larger of SW and IW
    parameter AW = 16
) (
    input  wire                 clk,
    input  wire                 rst,
    output wire                 busy,
    input  wire                 from_input,
    input  wire                 whole,      // all lanes of a word at once
    input  wire [AW-1:0]        blocks,     // of outputs
    input  wire [AW-1:0]        weights_lane,
    input  wire [AW-1:0]        potentials,
    // the list
    input  wire                 valid,
    input  wire [WORD+6*AW-1:0] entry,
    output wire                 pop,
    // tables of taps: where a potential lies, and its weight
    output wire                 read,
    output wire [AW-1:0]        row_addr,
    input  wire [2*AW-1:0]      row_tap,
    output wire [AW-1:0]        column_addr,
    input  wire [2*AW-1:0]      column_tap,
    // one tap
    output reg                  tap,
    output reg                  tap_first,  // of a word
    output reg                  tap_last,
    output reg  [AW-1:0]        tap_weight,
    output reg  [AW-1:0]        tap_potential,
    output reg  [PW-1:0]        tap_payload,
    output reg  [LANES*SW-1:0]  tap_spikes
);
    reg have;
    reg [WORD-1:0] word;
    reg [LANES-1:0] left;      // lanes that are still to be done
    reg [AW-1:0] row_start, row_count, column_start, column_count, weight_block, potential_block;
    reg [AW-1:0] row, column, block;
    reg begun;                 // whether a tap of this word is on its way

    // The word that comes next
    wire [WORD-1:0] next_word = entry[6*AW +: WORD];
    wire [LANES-1:0] next_left;
    genvar lane;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : fired
            assign next_left[lane] = from_input ? lane == 0 : next_word[lane*SW +: SW] != 0;
        end
    endgenerate

    // The lane whose turn it is: the lowest that is left
    wire [LANES-1:0] turn = left & (~left + 1'b1);
    wire only = (left & ~turn) == 0;
    reg [7:0] index;
    reg [SW-1:0] spike;
    integer k;
    always @* begin
        index = 0;
        spike = 0;
        for (k = 0; k < LANES; k = k + 1) begin
            if (turn[k]) begin
                index = index | k[7:0];
                spike = spike | word[k*SW +: SW];
            end
        end
    end

    wire last_block = block == blocks - 1'b1;
    wire last_column = column == column_count - 1'b1;
    wire last_row = row == row_count - 1'b1;
    wire lane_done = last_block && last_column && last_row;
    wire word_done = lane_done && (whole || from_input || only);

    assign pop = valid && (!have || word_done);
    assign read = have;
    assign row_addr = row_start + row;
    assign column_addr = column_start + column;

    // One cycle later, beside the taps
    reg late, late_first, late_last;
    reg [AW-1:0] late_block, late_weight, late_potential;
    reg [PW-1:0] late_payload;
    reg [LANES*SW-1:0] late_spikes;

    assign busy = have || late || tap;

    always @(posedge clk) begin
        if (have) begin
            block <= block + 1'b1;
            begun <= 1;
            if (last_block) begin
                block <= 0;
                column <= column + 1'b1;
                if (last_column) begin
                    column <= 0;
                    row <= row + 1'b1;
                    if (last_row) begin
                        row <= 0;
                        left <= left & ~turn;
                    end
                end
            end
        end
        if (pop) begin
            {word, row_start, row_count, column_start, column_count, weight_block, potential_block} <= entry;
            left <= next_left;
            row <= 0;
            column <= 0;
            block <= 0;
            begun <= 0;
        end
        if (rst) have <= 0;
        else if (pop) have <= 1;
        else if (word_done) have <= 0;

        late <= have && !rst;
        late_first <= !begun;
        late_last <= word_done;
        late_block <= block;
        late_weight <= weight_block + (whole || from_input ? {AW{1'b0}} : AW'(index * weights_lane));
        late_potential <= potentials + potential_block;
        late_payload <= from_input ? PW'($signed(word[IW-1:0])) : PW'($signed(spike));
        late_spikes <= word[LANES*SW-1:0];

        tap <= late && !rst;
        tap_first <= late_first;
        tap_last <= late_last;
        tap_weight <= late_weight + row_tap[AW-1:0] + column_tap[AW-1:0] + late_block;
        tap_potential <= late_potential + row_tap[2*AW-1:AW] + column_tap[2*AW-1:AW] + late_block;
        tap_payload <= late_payload;
        tap_spikes <= late_spikes;
    end

`ifdef FORMAL
    // Proved by induction, for any contents of the tables: a tap comes of a lane that fired, and of a row, a column and
    // a block that the entry of its word describes; both addresses are the sums of what lies there. With the tables of
    // a network these sums stay within its memories: backends/fpga/addresses.py.
    reg started = 0;
    (* anyconst *) wire [(2*AW << AW)-1:0] rows, columns;
    `define LINE(table, place) table[((place) & {AW{1'b1}}) * 2*AW +: 2*AW]
    reg [AW-1:0] asked_row, asked_column;
    // What a tap is made of: beside `late`, and beside `tap`
    reg [AW-1:0] row_1, column_1, block_1, weight_1, potential_1, row_2, column_2, block_2, weight_2, potential_2;
    reg [7:0] lane_1, lane_2;
    wire [2*AW-1:0] down = `LINE(rows, row_2), across = `LINE(columns, column_2);
    integer j;
    always @(posedge clk) begin
        started <= 1;
        if (read) {asked_row, asked_column} <= {row_addr, column_addr};
        {row_1, column_1, block_1} <= {row_addr, column_addr, block};
        {weight_1, potential_1, lane_1} <= {weight_block, potential_block, whole || from_input ? 8'd0 : index};
        {row_2, column_2, block_2, weight_2, potential_2, lane_2} <=
            {row_1, column_1, block_1, weight_1, potential_1, lane_1};
        if (!started) assume (rst);
        assume (row_tap == `LINE(rows, asked_row) && column_tap == `LINE(columns, asked_column));
        assume (blocks != 0);
        if (started) assume ($stable({from_input, whole, blocks, weights_lane, potentials}));
        if (valid) assume (entry[4*AW +: AW] != 0 && entry[2*AW +: AW] != 0 && (whole || next_left != 0));
        if (started && have) begin
            assert (row < row_count && column < column_count && block < blocks);
            assert (row_addr == AW'(row_start + row) && column_addr == AW'(column_start + column));
            if (!whole && !from_input) begin
                assert (left != 0 && 32'(index) < LANES && spike != 0);
                for (j = 0; j < LANES; j = j + 1) if (left[j]) assert (word[j*SW +: SW] != 0);
            end
        end
        if (started && late) begin
            assert (asked_row == row_1 && asked_column == column_1 && late_block == block_1 && block_1 < blocks);
            assert (late_weight == AW'(weight_1 + lane_1 * weights_lane) && 32'(lane_1) < LANES);
            assert (late_potential == AW'(potentials + potential_1));
        end
        if (started && tap) begin
            assert (tap_weight == AW'(weight_2 + lane_2 * weights_lane + down[AW-1:0] + across[AW-1:0] + block_2));
            assert (tap_potential == AW'(potentials + potential_2 + down[2*AW-1:AW] + across[2*AW-1:AW] + block_2));
            assert (block_2 < blocks && 32'(lane_2) < LANES);
        end
    end
`endif
endmodule

`default_nettype wire
