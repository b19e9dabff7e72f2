// A board: oscillator, button for reset, serial port, an LED that is on while the core waits for an image, and an
// SDRAM where weights are fetched from one.
`default_nettype none
`include "network.vh"

module snnc_board (
    input  wire clk,
    input  wire button,
    input  wire rx,
    output wire tx,
    output wire led
`ifdef SNNC_EXTERNAL
    ,
    output wire        sdram_clk,
    output wire        sdram_cke,
    output wire        sdram_csn,
    output wire        sdram_rasn,
    output wire        sdram_casn,
    output wire        sdram_wen,
    output wire [1:0]  sdram_ba,
    output wire [12:0] sdram_address,
    output wire [1:0]  sdram_dqm,
    inout  wire [15:0] sdram_data
`endif
);
`ifdef SNNC_EXTERNAL
    wire drive;
    wire [15:0] to_chip;
    assign sdram_clk = !clk;
    assign sdram_cke = 1;
    assign sdram_dqm = 0;
    assign sdram_data = drive ? to_chip : 16'bz;
`endif
    reg [3:0] after = 0;       // cycles since power was there
    reg rst = 1;
    always @(posedge clk) begin
        if (after != 15) after <= after + 1'b1;
        rst <= after != 15 || (button == `SNNC_BUTTON);
    end

    wire [15:0] q;
    wire [31:0] score;
    wire q_valid, q_ready, score_valid, score_ready, last, mark;
    wire [15:0] mark_id;

    snnc_uart #(.DIVIDER(`SNNC_DIVIDER)) uart (
        .clk(clk), .rst(rst), .rx(rx), .tx(tx), .m_tdata(q), .m_tvalid(q_valid), .m_tready(q_ready),
        .s_tdata(score), .s_tvalid(score_valid), .s_tready(score_ready)
    );

    snnc_network network (
        .clk(clk), .rst(rst), .s_tdata(q), .s_tvalid(q_valid), .s_tlast(1'b0), .s_tready(q_ready),
        .m_tdata(score), .m_tvalid(score_valid), .m_tlast(last), .m_tready(score_ready), .mark(mark),
        .mark_id(mark_id)
`ifdef SNNC_EXTERNAL
        , .sdram_command({sdram_csn, sdram_rasn, sdram_casn, sdram_wen}), .sdram_bank(sdram_ba),
        .sdram_address(sdram_address), .sdram_drive(drive), .sdram_to_chip(to_chip),
        .sdram_from_chip(sdram_data)
`endif
    );

    assign led = q_ready;
    wire unused = &{1'b0, last, mark, mark_id};
endmodule

`default_nettype wire
