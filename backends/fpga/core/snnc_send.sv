// The scores: the potentials of a read-out, channel by channel, as a stream.
`default_nettype none

module snnc_send #(
    parameter LANES = 16,
    parameter VW = 24,
    parameter AW = 16
) (
    input  wire                clk,
    input  wire                rst,
    input  wire                start,
    output wire                busy,
    input  wire                final_one,  // no other read-out follows
    input  wire [AW-1:0]       pixels,
    input  wire [AW-1:0]       blocks,
    input  wire [7:0]          lane_high,  // last lane of the last block
    input  wire [AW-1:0]       potentials,
    output wire                read,
    output wire [AW-1:0]       read_addr,
    input  wire [LANES*VW-1:0] data,
    output wire [31:0]         m_tdata,
    output wire                m_tvalid,
    output wire                m_tlast,
    input  wire                m_tready
);
    localparam [1:0] IDLE = 0, READ = 1, LOAD = 2, SEND = 3;

    reg [1:0] state;
    reg [AW-1:0] block, pixel, at;
    reg [7:0] lane;
    reg signed [VW-1:0] score;

    wire last_block = block == blocks - 1'b1;
    wire last_pixel = pixel == pixels - 1'b1;
    wire last_lane = lane == (last_block ? lane_high : 8'(LANES - 1));

    assign busy = state != IDLE;
    assign read = state == READ;
    assign read_addr = potentials + at;
    assign m_tdata = 32'(score);
    assign m_tvalid = state == SEND;
    assign m_tlast = final_one && last_block && last_pixel && last_lane;

    always @(posedge clk) begin
        case (state)
            IDLE: if (start) begin
                state <= READ;
                block <= 0;
                pixel <= 0;
                lane <= 0;
                at <= 0;
            end
            READ: state <= LOAD;
            LOAD: begin
                score <= $signed(data[lane*VW +: VW]);
                state <= SEND;
            end
            SEND: if (m_tready) begin
                state <= READ;
                pixel <= pixel + 1'b1;
                at <= at + blocks;
                if (last_pixel) begin
                    pixel <= 0;
                    lane <= lane + 1'b1;
                    at <= block;
                    if (last_lane) begin
                        lane <= 0;
                        block <= block + 1'b1;
                        at <= block + 1'b1;
                        if (last_block) state <= IDLE;
                    end
                end
            end
        endcase
        if (rst) state <= IDLE;
    end

`ifdef FORMAL
    // Proved by induction: it reads words of the population alone.
    reg begun = 0;
    always @(posedge clk) begin
        begun <= 1;
        if (!begun) assume (rst);
        assume (pixels != 0 && blocks != 0 && 32'(lane_high) < LANES);
        if (begun) assume ($stable({pixels, blocks, potentials, lane_high}));
        if (begun && state != IDLE) begin
            assert (pixel < pixels && block < blocks && 32'(lane) < LANES);
            if (last_block) assert (lane <= lane_high);
            assert (at == AW'(pixel * blocks + block));
        end
    end
`endif
endmodule

`default_nettype wire
